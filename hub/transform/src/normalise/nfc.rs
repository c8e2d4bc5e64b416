//! Brings text columns into composed Unicode (NFC) without touching those that are composed already.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Whether a text is in NFC.
#[must_use]
pub fn is_nfc(text: &str) -> bool {
    is_plainly_nfc(text.as_bytes()) || is_nfc_quick(text.chars()) == IsNormalized::Yes || unicode_normalization::is_nfc(text)
}

/// The same array if every text is composed, else a composed copy.
pub(super) fn composed(array: &ArrayRef) -> ArrayRef {
    let Some(texts) = array.as_string_opt::<i32>() else {
        return Arc::clone(array);
    };
    let offsets = texts.value_offsets();
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let bytes = usize::try_from(first).ok().zip(usize::try_from(last).ok()).and_then(|(first, last)| texts.value_data().get(first..last));
    // The texts lie end to end, and no byte of the plain set joins with what precedes it: one scan settles all.
    if bytes.is_some_and(is_plainly_nfc) || texts.iter().flatten().all(is_nfc) {
        return Arc::clone(array);
    }
    Arc::new(compose(texts))
}

fn compose(texts: &StringArray) -> StringArray {
    let mut builder = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut scratch = String::new();
    for text in texts {
        match text {
            Some(text) if !is_nfc(text) => {
                scratch.clear();
                scratch.extend(text.nfc());
                builder.append_value(&scratch);
            }
            other => builder.append_option(other),
        }
    }
    builder.finish()
}

/// Whether all of it is ASCII, U+0080 to U+01BF, U+1E80 to U+1EFF or general punctuation: all Vietnamese text in NFC is.
fn is_plainly_nfc(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        // Eight ASCII bytes at a time; Vietnamese text has a few such runs, codes and numbers nothing else.
        if let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>)
            && u64::from_ne_bytes(*chunk) & 0x8080_8080_8080_8080 == 0
        {
            at += 8;
            continue;
        }
        at += match bytes[at] {
            0..0x80 => 1,
            0xc2..=0xc6 => 2,
            0xe1 if matches!(bytes.get(at + 1), Some(0xba | 0xbb)) => 3,
            // U+2000 and U+2001 alone are not composed.
            0xe2 if bytes.get(at + 1) == Some(&0x80) && bytes.get(at + 2).is_some_and(|last| *last >= 0x82) => 3,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_byte_scan_never_passes_what_is_not_composed() {
        for c in ('\0'..='\u{ffff}').filter(|c| is_plainly_nfc(c.to_string().as_bytes())) {
            for text in [c.to_string(), format!("a{c}"), format!("{c}a")] {
                assert!(unicode_normalization::is_nfc(&text), "{c:?}");
            }
        }
        assert!(is_plainly_nfc("Nguyễn Văn Trường – “Bình Dương”, số 12°".as_bytes()));
        assert!(!is_plainly_nfc("Ha\u{300}".as_bytes()));
    }

    #[test]
    fn composed_columns_are_returned_as_they_are() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("Nguyễn Văn Trường"), None, Some("日本")]));
        assert!(Arc::ptr_eq(&composed(&column), &column));
        let sliced = column.slice(1, 2);
        assert!(Arc::ptr_eq(&composed(&sliced), &sliced));
    }

    #[test]
    fn decomposed_texts_are_composed_and_nulls_stay() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("Ha\u{300} No\u{302}\u{323}i"), None, Some("x")]));
        assert_eq!(composed(&column).as_string::<i32>(), &StringArray::from(vec![Some("Hà Nội"), None, Some("x")]));
    }
}

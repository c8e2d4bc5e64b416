//! TCVN3 (ABC), the eight-bit encoding of old Vietnamese extracts, as it looks when its bytes were taken for Latin-1.

/// Each letter beside the code point that stands for it.
const LETTERS: &str = "àµả¶ã·á¸ạ¹ă¨ằ»ẳ¼ẵ½ắ¾ặÆâ©ầÇẩÈẫÉấÊậËđ®èÌẻÎẽÏéÐẹÑêªềÒểÓễÔếÕệÖì×ỉØĩÜíÝịÞòßỏáõâóãọäô«ồåổæỗçốèộéơ¬ờêởëỡìớíợîùïủñũòúóụôư\u{ad}ừõửöữ÷ứøựùỳúỷûỹüýýỵþĂ¡Â¢Ê£Ô¤Ơ¥Ư¦Đ§";

/// `text` in TCVN3 read as Latin-1, `Đường` → `§\u{ad}êng`. Capitals with tones have no code of their own in TCVN3: they become small.
pub(crate) fn encode(text: &str) -> String {
    text.chars().map(letter).collect()
}

fn letter(wanted: char) -> char {
    if wanted.is_ascii() {
        return wanted;
    }
    find(wanted).or_else(|| wanted.to_lowercase().next().and_then(find)).unwrap_or(wanted)
}

fn find(wanted: char) -> Option<char> {
    let mut letters = LETTERS.chars();
    while let (Some(letter), Some(code)) = (letters.next(), letters.next()) {
        if letter == wanted {
            return Some(code);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{LETTERS, encode};

    #[test]
    fn the_old_encoding_looks_as_it_did() {
        assert_eq!(encode("Đường Thủ Dầu Một"), "§\u{ad}êng Thñ DÇu Mét");
        assert_eq!(encode("Phú Lợi"), "Phó Lîi");
    }

    #[test]
    fn no_two_letters_share_a_code() {
        let mut codes: Vec<char> = LETTERS.chars().skip(1).step_by(2).collect();
        assert_eq!(codes.len(), 74);
        assert!(codes.iter().all(|&code| (0xA1..=0xFE).contains(&u32::from(code))));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 74);
    }
}

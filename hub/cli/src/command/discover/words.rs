//! How near two names are: words of Vietnamese and English, without diacritics, in any order.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Words that tell nothing.
const EMPTY: [&str; 11] = ["cua", "va", "thoi", "diem", "cac", "theo", "tbl", "dm", "of", "the", "s"];

/// What abbreviations of columns stand for.
const SHORT: [(&str, &str); 9] = [
    ("cccd", "dinh danh ca nhan"),
    ("sdt", "dien thoai"),
    ("dt", "dien thoai"),
    ("mst", "ma so thue"),
    ("gt", "gioi tinh"),
    ("ns", "ngay sinh"),
    ("dc", "dia chi"),
    ("cb", "can bo"),
    ("tthc", "thu tuc hanh chinh"),
];

/// The words of a name: `Họ và tên`, `ho_ten` and `HoTen` have the same.
pub(super) fn words(name: &str) -> BTreeSet<String> {
    let mut plain = String::with_capacity(name.len());
    let mut lower = false;
    for letter in name.nfd().filter(|letter| !is_combining_mark(*letter)) {
        if letter.is_uppercase() && lower {
            plain.push(' ');
        }
        lower = letter.is_lowercase();
        match letter {
            'đ' | 'Đ' => plain.push('d'),
            letter if letter.is_alphanumeric() => plain.extend(letter.to_lowercase()),
            _ => plain.push(' '),
        }
    }
    let whole = |word| SHORT.iter().find(|(short, _)| *short == word).map_or(word, |(_, whole)| *whole);
    let words = plain.split_whitespace().flat_map(|word| whole(word).split(' '));
    words.filter(|word| !EMPTY.contains(word)).map(str::to_owned).collect()
}

/// From 0 to 100: the part of their words that two names share.
pub(super) fn likeness(left: &BTreeSet<String>, right: &BTreeSet<String>) -> usize {
    let shared = left.intersection(right).count();
    let all = left.union(right).count();
    (shared * 100).checked_div(all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_alike_whatever_their_spelling() {
        let same = |left: &str, right: &str| likeness(&words(left), &words(right));
        assert_eq!(same("Họ và tên", "ho_ten"), 100);
        assert_eq!(same("Ngày sinh", "NgaySinh"), 100);
        assert_eq!(same("Địa chỉ", "dia_chi"), 100);
        assert_eq!(same("Mã hồ sơ", "ma_ho_so"), 100);
        assert_eq!(same("Số định danh cá nhân", "so_cccd"), 100);
        assert!(same("Trạng thái", "ma_ho_so") == 0);
        assert_eq!(same("", ""), 0);
    }
}

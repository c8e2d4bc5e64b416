//! Values that become text: labels, addresses and identifiers.

use super::Refusal;

/// `INET6` as MariaDB writes it: the address, an IPv4 one within it in dots.
pub(crate) fn push_inet6(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Refusal> {
    let octets: [u8; 16] = padded(bytes)?;
    let address = std::net::Ipv6Addr::from(octets);
    text.extend_from_slice(address.to_string().as_bytes());
    Ok(())
}

/// `INET4`.
pub(crate) fn push_inet4(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Refusal> {
    let octets: [u8; 4] = padded(bytes)?;
    text.extend_from_slice(std::net::Ipv4Addr::from(octets).to_string().as_bytes());
    Ok(())
}

/// `UUID` of the log: its bytes in the order of its letters.
pub(crate) fn push_uuid(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Refusal> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let raw: [u8; 16] = padded(bytes)?;
    for (place, byte) in raw.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Ok(())
}

/// The log leaves out zeros at the end.
fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    let mut whole = [0; N];
    whole.get_mut(..bytes.len()).ok_or(Refusal::undecodable("it is too long"))?.copy_from_slice(bytes);
    Ok(whole)
}

/// The label of an `ENUM`; the empty text is what the server keeps for a value that it did not know.
pub(crate) fn push_label(index: u64, labels: &[String], text: &mut Vec<u8>) -> Result<(), Refusal> {
    let Some(place) = index.checked_sub(1) else { return Ok(()) };
    let label = usize::try_from(place).ok().and_then(|place| labels.get(place));
    text.extend_from_slice(label.ok_or(Refusal::undecodable("the column has no such label"))?.as_bytes());
    Ok(())
}

/// The labels of a `SET`, with commas.
pub(crate) fn push_labels(bits: u64, labels: &[String], text: &mut Vec<u8>) -> Result<(), Refusal> {
    if bits.checked_shr(u32::try_from(labels.len()).unwrap_or(64)).unwrap_or(0) > 0 {
        return Err(Refusal::undecodable("the column has no such label"));
    }
    let mut is_first = true;
    for (_, label) in labels.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1) {
        if !std::mem::take(&mut is_first) {
            text.push(b',');
        }
        text.extend_from_slice(label.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn labels_of_a_set_stand_in_the_order_of_its_definition() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let mut text = Vec::new();
        push_labels(0b101, &labels, &mut text).unwrap();
        assert_eq!(text, b"a,c");
        assert!(push_labels(0b1000, &labels, &mut text).is_err());
    }
}

//! The handshake: capabilities, TLS, and the proofs that the account knows its password.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Encryption;
use super::bytes::Bytes;
use super::channel::Channel;
use super::{Address, ServerError, WireError};

const MYSQL: u32 = 1;
const LONG_FLAG: u32 = 4;
const PROTOCOL_41: u32 = 0x200;
const SSL: u32 = 0x800;
const TRANSACTIONS: u32 = 0x2000;
const SECURE: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
const ATTRIBUTES: u32 = 0x10_0000;
const LONG_PROOF: u32 = 0x20_0000;
const NO_EOF: u32 = 0x100_0000;
const WANTED: u32 = MYSQL | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE | PLUGIN_AUTH | ATTRIBUTES | LONG_PROOF | NO_EOF;
/// utf8mb4_general_ci.
const CHARSET: u8 = 45;
const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";
const CLEAR: &str = "mysql_clear_password";

/// What the server says of itself first.
struct Greeting {
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

/// Logs in.
///
/// # Errors
/// The server is out of reach, too old, or refuses the account.
pub(crate) async fn login(channel: &mut Channel, address: &Address) -> Result<(), WireError> {
    let packet = channel.packet().await?;
    let greeting = greeting(channel.bytes(packet))?;
    if greeting.capabilities & (PROTOCOL_41 | PLUGIN_AUTH | NO_EOF) != PROTOCOL_41 | PLUGIN_AUTH | NO_EOF {
        return Err(WireError::Protocol("the server is too old: MySQL 8 or MariaDB 10.11 is needed"));
    }
    let mut capabilities = WANTED & (greeting.capabilities | MYSQL);
    let offered = greeting.capabilities & SSL != 0;
    let tls = match &address.encryption {
        Encryption::Never => None,
        Encryption::IfOffered(config) => offered.then_some(config),
        Encryption::Always(_) if !offered => return Err(WireError::NoTls),
        Encryption::Always(config) => Some(config),
    };
    if let Some(config) = tls {
        capabilities |= SSL;
        channel.send(&opening(capabilities)).await?;
        channel.encrypt(config.clone(), &address.host).await?;
    }
    let mut answer = opening(capabilities);
    answer.extend_from_slice(address.user.as_bytes());
    answer.push(0);
    let proof = prove(&greeting.plugin, address.password.reveal(), &greeting.nonce).unwrap_or_default();
    push_text(&mut answer, &proof);
    answer.extend_from_slice(greeting.plugin.as_bytes());
    answer.push(0);
    let mut attributes = Vec::new();
    push_text(&mut attributes, b"program_name");
    push_text(&mut attributes, b"provincial-data-hub");
    push_text(&mut answer, &attributes);
    channel.send(&answer).await?;
    converse(channel, address, greeting.plugin).await
}

/// Answers what the server asks until it lets the account in.
async fn converse(channel: &mut Channel, address: &Address, mut plugin: String) -> Result<(), WireError> {
    let password = address.password.reveal();
    loop {
        let packet = channel.packet().await?;
        let reply = match channel.bytes(packet) {
            [0, ..] => return Ok(()),
            [0xff, rest @ ..] => return Err(WireError::Server(ServerError::parse(rest))),
            [0xfe, rest @ ..] => {
                let mut rest = Bytes::new(rest);
                plugin = String::from_utf8_lossy(rest.until_zero()?).into_owned();
                let nonce = trimmed(rest.rest());
                if plugin == CLEAR {
                    clear(password, channel.is_encrypted())?
                } else {
                    prove(&plugin, password, nonce).ok_or_else(|| WireError::Plugin(plugin.clone()))?
                }
            }
            // The server has the password in its cache: it says so, and lets the account in.
            [1, 3] => continue,
            [1, 4] if plugin == CACHING => clear(password, channel.is_encrypted())?,
            _ => return Err(WireError::Plugin(plugin)),
        };
        channel.send(&reply).await?;
    }
}

fn greeting(packet: &[u8]) -> Result<Greeting, WireError> {
    if let [0xff, rest @ ..] = packet {
        return Err(WireError::Server(ServerError::parse(rest)));
    }
    let mut bytes = Bytes::new(packet);
    if bytes.u8()? != 10 {
        return Err(WireError::Protocol("its greeting is of another protocol"));
    }
    bytes.until_zero()?;
    bytes.take(4)?;
    let mut nonce = bytes.take(8)?.to_vec();
    bytes.take(1)?;
    let low = u32::from(bytes.u16()?);
    bytes.take(3)?;
    let capabilities = low | u32::from(bytes.u16()?) << 16;
    let length = usize::from(bytes.u8()?);
    bytes.take(10)?;
    nonce.extend_from_slice(trimmed(bytes.take(length.saturating_sub(8).max(13).min(bytes.rest().len()))?));
    let plugin = bytes.until_zero().map_or_else(|_| NATIVE.to_owned(), |name| String::from_utf8_lossy(name).into_owned());
    Ok(Greeting { capabilities, nonce, plugin })
}

fn opening(capabilities: u32) -> Vec<u8> {
    let mut packet = capabilities.to_le_bytes().to_vec();
    packet.extend_from_slice(&(1u32 << 30).to_le_bytes());
    packet.push(CHARSET);
    packet.extend_from_slice(&[0; 23]);
    packet
}

fn trimmed(nonce: &[u8]) -> &[u8] {
    nonce.strip_suffix(&[0]).unwrap_or(nonce)
}

fn push_text(packet: &mut Vec<u8>, text: &[u8]) {
    // What is written here is shorter than 251 bytes, but for a long account name's attributes, which do not exist.
    packet.push(u8::try_from(text.len()).unwrap_or(0));
    packet.extend_from_slice(text);
}

fn clear(password: &str, encrypted: bool) -> Result<Vec<u8>, WireError> {
    if !encrypted {
        return Err(WireError::ClearPassword);
    }
    let mut reply = password.as_bytes().to_vec();
    reply.push(0);
    Ok(reply)
}

/// The proof that a plug-in wants; `None` for an unknown one.
fn prove(plugin: &str, password: &str, nonce: &[u8]) -> Option<Vec<u8>> {
    let is_known = plugin == NATIVE || plugin == CACHING;
    if password.is_empty() {
        return is_known.then(Vec::new);
    }
    match plugin {
        NATIVE => {
            let once = Sha1::digest(password.as_bytes());
            let twice = Sha1::digest(once);
            let salted = Sha1::new().chain_update(nonce).chain_update(twice).finalize();
            Some(once.iter().zip(salted.iter()).map(|(left, right)| left ^ right).collect())
        }
        CACHING => {
            let once = Sha256::digest(password.as_bytes());
            let twice = Sha256::digest(once);
            let salted = Sha256::new().chain_update(twice).chain_update(nonce).finalize();
            Some(once.iter().zip(salted.iter()).map(|(left, right)| left ^ right).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_proof_shows_the_server_what_it_keeps_and_not_the_password() {
        let (password, nonce) = ("mật khẩu", b"01234567890123456789");
        let proof = prove(CACHING, password, nonce).unwrap();
        // The server keeps the second digest: with it, the first comes out of the proof, and its digest must be the second.
        let second = Sha256::digest(Sha256::digest(password.as_bytes()));
        let salted = Sha256::new().chain_update(second).chain_update(nonce).finalize();
        let first: Vec<u8> = proof.iter().zip(salted.iter()).map(|(left, right)| left ^ right).collect();
        assert_eq!(Sha256::digest(&first), second);
        assert_eq!(prove(NATIVE, "", nonce), Some(Vec::new()));
        assert_eq!(prove("dialog", "", nonce), None);
    }

    #[test]
    fn a_password_goes_in_clear_over_tls_alone() {
        assert!(matches!(clear("x", false), Err(WireError::ClearPassword)));
        assert_eq!(clear("x", true).unwrap(), b"x\0");
    }
}

//! Ed25519 keys with names, in the text form of signed notes (C2SP `signed-note`): `name+id+key`.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::b64;

/// The algorithm byte of Ed25519 in signed notes.
const ED25519: u8 = 1;

/// What a secret key's text begins with.
const SECRET: &str = "PRIVATE+KEY+";

/// The text or the bytes are no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The name is empty or holds a plus, a space or a control character.
    #[error("`{0}` is no name of a key: it may hold neither plus signs, spaces nor control characters")]
    Name(String),
    /// The text has another form.
    #[error("it is no key; one looks like `name+id+base64`, with the id of that name and key")]
    Form,
    /// The bytes are no point of the curve, or one for which anybody can make signatures.
    #[error("the key is not a safe Ed25519 key")]
    Weak,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
}

fn named(name: &str) -> Result<String, BadKey> {
    let bad = |sign: char| sign == '+' || sign.is_whitespace() || sign.is_control();
    if name.is_empty() || name.contains(bad) { Err(BadKey::Name(name.to_owned())) } else { Ok(name.to_owned()) }
}

/// A key that signatures are verified with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Wraps the 32 bytes of a public key.
    ///
    /// # Errors
    /// [`BadKey::Name`], and [`BadKey::Weak`] for a key of low order.
    pub fn new(name: &str, bytes: &[u8; 32]) -> Result<Self, BadKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| BadKey::Weak)?;
        if key.is_weak() {
            return Err(BadKey::Weak);
        }
        Ok(Self { name: named(name)?, key })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The id of signed notes: the first four bytes of SHA-256 over name, newline, algorithm and key. A hint, and no proof.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', ED25519]);
        hasher.update(self.bytes());
        let [first, second, third, fourth, ..] = <[u8; 32]>::from(hasher.finalize());
        [first, second, third, fourth]
    }

    /// The id in eight hexadecimal digits.
    #[must_use]
    pub fn id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id()))
    }

    /// Tells whether `signature` is this key's over `message`. Strict: a point of low order and a second encoding of the same signature
    /// are refused.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.bytes());
        write!(f, "{}+{}+{}", self.name, self.id_text(), b64::encode(&bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (name, id, bytes) = parts(text)?;
        let key = Self::new(name, &bytes)?;
        if key.id_text() == id { Ok(key) } else { Err(BadKey::Form) }
    }
}

/// Name, id and the 32 bytes of `name+id+base64(algorithm, bytes)`. The base64 may hold plus signs itself.
fn parts(text: &str) -> Result<(&str, &str, [u8; 32]), BadKey> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(BadKey::Form);
    };
    let bytes = b64::decode(key).ok_or(BadKey::Form)?;
    match bytes.split_first() {
        Some((&ED25519, key)) => Ok((name, id, key.try_into().map_err(|_| BadKey::Form)?)),
        Some(_) | None => Err(BadKey::Form),
    }
}

/// A key that signs. Its memory is wiped when it is dropped, and `Debug` shows the public half alone.
pub struct SecretKey {
    key: SigningKey,
    public: PublicKey,
}

impl SecretKey {
    /// Makes a key from the random bytes of the system.
    ///
    /// # Errors
    /// [`BadKey::Name`] and [`BadKey::Random`].
    pub fn generate(name: &str) -> Result<Self, BadKey> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| BadKey::Random(error.to_string()))?;
        Self::from_seed(name, &seed)
    }

    /// Makes the key of a seed (RFC 8032 calls it the private key).
    ///
    /// # Errors
    /// [`BadKey::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, BadKey> {
        let key = SigningKey::from_bytes(seed);
        let public = PublicKey::new(name, key.verifying_key().as_bytes())?;
        Ok(Self { key, public })
    }

    /// Reads what [`text`](Self::text) wrote.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_text(text: &str) -> Result<Self, BadKey> {
        let (name, id, seed) = parts(text.trim_end().strip_prefix(SECRET).ok_or(BadKey::Form)?)?;
        let key = Self::from_seed(name, &seed)?;
        if key.public.id_text() == id { Ok(key) } else { Err(BadKey::Form) }
    }

    /// Writes the secret key as text, for a file that its owner alone may read.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        format!("{SECRET}{}+{}+{}", self.public.name, self.public.id_text(), b64::encode(&bytes))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        let key = SecretKey::generate("example.com/dr").unwrap();
        assert_eq!(SecretKey::from_text(&key.text()).unwrap().public(), key.public());
        assert_eq!(&key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
        assert!(key.public().verifies(b"text", &key.sign(b"text")));
        assert!(!key.public().verifies(b"texts", &key.sign(b"text")));
    }

    #[test]
    fn secret_half_is_not_shown() {
        let key = SecretKey::from_seed("root", &[7; 32]).unwrap();
        let (_, secret) = key.text().rsplit_once('+').map(|(head, tail)| (head.to_owned(), tail.to_owned())).unwrap();
        assert!(!format!("{key:?}").contains(&secret));
    }

    #[test]
    fn key_of_another_name_id_or_order_is_refused() {
        let text = SecretKey::from_seed("root", &[7; 32]).unwrap().public().to_string();
        assert_eq!(text.replacen("root", "boot", 1).parse::<PublicKey>(), Err(BadKey::Form));
        assert_eq!("root".parse::<PublicKey>(), Err(BadKey::Form));
        assert!(matches!(PublicKey::new("a b", &[1; 32]), Err(BadKey::Name(_) | BadKey::Weak)));
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::new("low", &neutral), Err(BadKey::Weak));
        assert!(matches!(SecretKey::from_seed("a+b", &[7; 32]), Err(BadKey::Name(_))));
    }
}

//! Ed25519 keys of events: the ids they go by, and the ring of those that are trusted.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use ed25519_dalek::{Signature, VerifyingKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Event;

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Returns the bytes of unpadded base64url; None for padding, foreign characters and unused bits that aren't zero.
pub(crate) fn b64url_decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A public key that events are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerifyKey {
    key: VerifyingKey,
    /// The first 16 hex digits of the SHA-256 of the raw key (docs/events.md).
    pub(crate) keyid: String,
}

impl VerifyKey {
    /// Takes the 32 raw bytes; None for what isn't a point of the curve.
    pub(crate) fn from_raw(raw: &[u8]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(raw.try_into().ok()?).ok()?;
        let digest = Sha256::digest(raw);
        let keyid = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { key, keyid })
    }

    /// Reads a PEM `PUBLIC KEY`; None for anything but Ed25519.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        Self::from_raw(spki.as_ref().strip_prefix(SPKI_ED25519.as_slice())?)
    }

    /// Reads a JWK (RFC 8037); None for another kind of key, or a `kid` that isn't the key's.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |member: &str| jwk.get(member).and_then(Value::as_str);
        if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") {
            return None;
        }
        let key = Self::from_raw(&b64url_decode(text("x")?)?)?;
        match jwk.get("kid") {
            Some(kid) if kid.as_str() != Some(&key.keyid) => None,
            _ => Some(key),
        }
    }

    /// Tells whether `signature` is this key's over `data`. Strictly: no signature counts for two messages.
    pub(crate) fn verify(&self, signature: &[u8], data: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(data, &signature).is_ok())
    }
}

/// The keys that are trusted, by id. A daemon has one, or two for a moment: a list does.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyRing {
    keys: Vec<VerifyKey>,
}

impl KeyRing {
    pub(crate) fn new(keys: impl IntoIterator<Item = VerifyKey>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
        }
    }

    /// Returns the trusted key of this id.
    pub(crate) fn get(&self, keyid: &str) -> Option<&VerifyKey> {
        self.keys.iter().find(|key| key.keyid == keyid)
    }

    /// Trusts `key` from now on.
    pub(crate) fn add(&mut self, key: VerifyKey) {
        if self.get(&key.keyid).is_none() {
            self.keys.push(key);
        }
    }

    /// Trusts and returns the new key of a verified `audit.key_rotated`; None when there is none to follow.
    ///
    /// The event must be signed by a key of this ring, and its `proof` by the new key over the canonical bytes of
    /// `jwk`: nobody introduces a key that they don't hold.
    pub(crate) fn follow(&mut self, event: &Event) -> Option<VerifyKey> {
        if event.kind != "audit.key_rotated" || self.get(&event.keyid).is_none() {
            return None;
        }
        let jwk = event.data.get("jwk")?.as_object()?;
        let proof = b64url_decode(event.data.get("proof")?.as_str()?)?;
        let key = VerifyKey::from_jwk(jwk)?;
        let introduced = serde_json_canonicalizer::to_vec(jwk).ok()?;
        if !key.verify(&proof, &introduced) {
            return None;
        }
        self.add(key.clone());
        Some(key)
    }
}

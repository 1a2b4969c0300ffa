//! The web configuration of `serve`: TLS and basic authentication, in the format of Prometheus' exporter-toolkit.
//!
//! A key that this program does not know is an error, because to pass over one would serve with less protection than
//! the file asks for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pytheus_backend_rs::{ClientCertificates, ExporterTls, Guard, TlsVersions};
use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlLoader};

use crate::failure::Failure;
use crate::users::Users;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct WebConfig {
    pub(crate) tls: Option<ExporterTls>,
    pub(crate) guard: Option<Guard>,
}

impl WebConfig {
    /// Reads the file, and the certificates that it names.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed =
            |reason: String| Failure::usage(format!("web configuration {}: {reason}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(failed)
    }

    /// Parses the text. Relative paths begin at `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
        let empty = Yaml::Hash(Hash::new());
        let sections = Section::of(documents.first().unwrap_or(&empty), "the file", folder)?;
        sections.allow(&["tls_server_config", "basic_auth_users", "http_server_config"])?;
        // It only chooses HTTP/2, and a client of such a server may use HTTP/1.1 as well.
        if let Some(http) = sections.section("http_server_config")? {
            http.allow(&["http2"])?;
        }
        let tls = sections.section("tls_server_config")?.map(|section| tls(&section)).transpose()?.flatten();
        let users = sections.section("basic_auth_users")?.map(|section| users(&section)).transpose()?;
        let users = users.filter(|users| !users.is_empty());
        let guard = users.map(|users| {
            let users = Arc::new(users);
            let asked = Arc::clone(&users);
            Guard::slow(move |header| users.known(header), move |header| asked.allow(header))
        });
        Ok(Self { tls, guard })
    }
}

fn tls(section: &Section<'_>) -> Result<Option<ExporterTls>, String> {
    section.allow(&[
        "cert",
        "cert_file",
        "key",
        "key_file",
        "client_ca",
        "client_ca_file",
        "client_auth_type",
        "min_version",
        "max_version",
    ])?;
    let (certificate, key) = (section.pem("cert")?, section.pem("key")?);
    let authorities = section.pem("client_ca")?;
    let auth_type = section.text("client_auth_type")?.unwrap_or("NoClientCert");
    let are_required = match auth_type {
        "NoClientCert" | "" => None,
        "VerifyClientCertIfGiven" => Some(false),
        "RequireAndVerifyClientCert" => Some(true),
        _ => {
            return Err(format!(
                "client_auth_type is {auth_type:?}: expected NoClientCert, VerifyClientCertIfGiven or \
                 RequireAndVerifyClientCert"
            ));
        }
    };
    let clients = match (&authorities, are_required) {
        (None, None) => None,
        (Some(authorities), Some(are_required)) => Some(ClientCertificates { authorities, are_required }),
        (Some(_), None) => return Err("client_ca_file needs client_auth_type".to_owned()),
        (None, Some(_)) => return Err(format!("client_auth_type {auth_type} needs client_ca_file")),
    };
    let versions = match (section.version("min_version")?, section.version("max_version")?) {
        (Some(13), Some(12)) => return Err("min_version is above max_version".to_owned()),
        (Some(13), _) => TlsVersions::Tls13,
        (_, Some(12)) => TlsVersions::Tls12,
        _ => TlsVersions::All,
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let tls = ExporterTls::new(&certificate, &key, clients, versions);
            tls.map(Some).map_err(|error| error.message().to_owned())
        }
        (None, None) if clients.is_none() => Ok(None),
        (None, _) => Err("tls_server_config needs cert_file".to_owned()),
        (_, None) => Err("tls_server_config needs key_file".to_owned()),
    }
}

fn users(section: &Section<'_>) -> Result<Users, String> {
    let mut users = Users::default();
    for (name, hash) in section.hash {
        match (name, hash) {
            (Yaml::String(name), Yaml::String(hash)) => users.add(name, hash)?,
            _ => return Err("basic_auth_users: expected names and bcrypt hashes".to_owned()),
        }
    }
    Ok(users)
}

/// A mapping of the file.
struct Section<'file> {
    name: &'file str,
    hash: &'file Hash,
    folder: &'file Path,
}

impl<'file> Section<'file> {
    fn of(yaml: &'file Yaml, name: &'file str, folder: &'file Path) -> Result<Self, String> {
        let hash = yaml.as_hash().ok_or_else(|| format!("{name}: expected keys and values"))?;
        Ok(Self { name, hash, folder })
    }

    /// Returns an error if there is a key that is not among these.
    fn allow(&self, known: &[&str]) -> Result<(), String> {
        let is_known = |key: &Yaml| key.as_str().is_some_and(|key| known.contains(&key));
        match self.hash.keys().find(|key| !is_known(key)) {
            Some(key) => {
                let key = key.as_str().unwrap_or("a key that is no text");
                Err(format!("{}: {key} is not supported: expected {}", self.name, known.join(", ")))
            }
            None => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<&'file Yaml> {
        self.hash.get(&Yaml::String(key.to_owned())).filter(|value| !value.is_null())
    }

    fn section(&self, key: &'file str) -> Result<Option<Self>, String> {
        self.get(key).map(|yaml| Self::of(yaml, key, self.folder)).transpose()
    }

    fn text(&self, key: &str) -> Result<Option<&'file str>, String> {
        let text = |yaml: &'file Yaml| yaml.as_str().ok_or_else(|| format!("{key}: expected a text"));
        self.get(key).map(text).transpose()
    }

    /// Returns the text of `key`, or the content of the file that `key` with `_file` names.
    fn pem(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let file_key = format!("{key}_file");
        match (self.text(key)?, self.text(&file_key)?) {
            (Some(_), Some(_)) => Err(format!("{key} and {file_key} exclude each other")),
            (Some(text), None) => Ok(Some(text.as_bytes().to_owned())),
            (None, Some("") | None) => Ok(None),
            (None, Some(file)) => {
                let path: PathBuf = self.folder.join(file);
                let read = fs::read(&path).map_err(|error| format!("{file_key} {}: {error}", path.display()));
                read.map(Some)
            }
        }
    }

    fn version(&self, key: &str) -> Result<Option<u8>, String> {
        match self.text(key)? {
            None => Ok(None),
            Some("TLS12") => Ok(Some(12)),
            Some("TLS13") => Ok(Some(13)),
            Some(other) => Err(format!("{key} is {other:?}: expected TLS12 or TLS13")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_serve_with_less_protection_is_an_error() {
        let reason = |text: &str| WebConfig::parse(text, Path::new("/nowhere")).unwrap_err();
        for (text, expected) in [
            ("tls_server_config: {cert_file: x}", "cert_file /nowhere/x: No such file"),
            ("tls_server_config: {cert: x}", "needs key_file"),
            ("tls_server_config: {client_auth_type: RequireAndVerifyClientCert}", "needs client_ca_file"),
            (
                "tls_server_config: {client_auth_type: RequireAnyClientCert}",
                "client_auth_type is \"RequireAnyClientCert\": expected",
            ),
            ("tls_server_config: {client_ca: x}", "client_ca_file needs client_auth_type"),
            ("tls_server_config: {cipher_suites: [x]}", "cipher_suites is not supported"),
            ("tls_server_config: {min_version: TLS10}", "min_version is \"TLS10\": expected TLS12 or TLS13"),
            ("tls_server_config: {min_version: TLS13, max_version: TLS12}", "min_version is above"),
            ("tls_server_config: {cert: x, cert_file: y}", "exclude each other"),
            ("tls_server_config: x", "expected keys and values"),
            ("basic_auth_users: {a: secret}", "user \"a\" has no bcrypt hash"),
            ("basic_auth_users: {1: x}", "expected names and bcrypt hashes"),
            ("basic_auth_users: {a: x, a: y}", "duplicated key"),
            ("rate_limit: {burst: 1}", "rate_limit is not supported"),
            ("http_server_config: {headers: {}}", "headers is not supported"),
            ("basic_auth_user: {}", "basic_auth_user is not supported"),
            ("- x", "the file: expected keys and values"),
            ("a: [", "while parsing"),
        ] {
            assert!(reason(text).contains(expected), "{text}: {}", reason(text));
        }
    }

    #[test]
    fn an_empty_configuration_protects_nothing() {
        for text in ["", "{}", "tls_server_config:\nbasic_auth_users:\nhttp_server_config: {http2: true}\n"] {
            let config = WebConfig::parse(text, Path::new("/")).unwrap();
            assert!(config.tls.is_none() && config.guard.is_none(), "{text}");
        }
    }
}

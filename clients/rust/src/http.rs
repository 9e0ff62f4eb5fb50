//! HTTP to the daemon: TCP or Unix socket, who we are, and one kind of failure. Only here requests are sent.
//!
//! Proxies of the environment are ignored, redirects aren't followed and cookies aren't kept: a token goes to the
//! daemon only.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, AUTHORIZATION, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::error::{Result, SecretsError};
use crate::settings::Settings;
use crate::socket::doubt;
use crate::tls::{trusting_nobody, Stamp, TlsFiles, Unfit};
use crate::token::Token;
use crate::verify::is_name;

const CONNECTIONS: usize = 16;

/// An answer of the daemon. The body may be a secret: it is wiped.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    headers: HeaderMap,
}

impl Response {
    /// Returns a header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One client's connections to one daemon.
pub(crate) struct Http {
    base: String,
    shown: String,
    socket: Option<PathBuf>,
    identity: Option<HeaderValue>,
    instance: Option<String>,
    token: Token,
    tls: TlsFiles,
    is_tls: bool,
    timeout: Duration,
    client: Mutex<Option<(Stamp, Client)>>,
}

impl Http {
    /// Returns a transport; `Settings` for a URL, a client id, a pair of tokens or files for TLS that make no sense.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let (base, socket) = parse_url(&settings.url)?;
        let is_tls = base.to_ascii_lowercase().starts_with("https:");
        if !settings.tls.is_paired() {
            return wrong("the client's certificate and its key come together: give both files or neither");
        }
        if !settings.tls.is_empty() && !is_tls {
            return wrong("a CA file, a certificate and its key are for TLS: write the daemon's URL as https://…");
        }
        let token = match (&settings.token, &settings.token_file) {
            (Some(_), Some(_)) => return wrong("give either a token or a token file, not both"),
            (Some(token), None) => Token::given(token.expose_secret())?,
            (None, Some(path)) => Token::in_file(path),
            (None, None) => Token::None,
        };
        let identity = match &settings.client_id {
            Some(id) if id.is_empty() || !id.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                return wrong("a client's name is printable ASCII");
            }
            Some(id) => HeaderValue::from_str(id).ok(),
            None => None,
        };
        if settings.instance.as_deref().is_some_and(|instance| !is_name(instance)) {
            return wrong(
                "an instance's name is up to 128 letters, digits, dots, underscores, hyphens, and begins with a letter \
                 or digit",
            );
        }
        Ok(Self {
            base,
            shown: settings.url.clone(),
            socket,
            identity,
            instance: settings.instance.clone(),
            token,
            tls: settings.tls.clone(),
            is_tls,
            timeout: settings.timeout,
            client: Mutex::new(None),
        })
    }

    /// Returns the daemon's answer to a GET: see `request`.
    pub(crate) async fn get(&self, path: &str, headers: &[(HeaderName, String)]) -> Result<Response> {
        self.request(Method::GET, path, headers, None).await
    }

    /// Returns the daemon's answer to a POST of JSON: see `request`.
    pub(crate) async fn post(&self, path: &str, json: String) -> Result<Response> {
        self.request(
            Method::POST,
            path,
            &[(CONTENT_TYPE, "application/json".into())],
            Some(json),
        )
        .await
    }

    /// Returns the daemon's answer, whatever its status; `SecretsUnavailable` when there is none.
    ///
    /// `Settings` is for a file that holds no token, or no certificate. After a 401 a token file that has changed is
    /// read and the request sent once more: a refused request did nothing, so any method may be repeated.
    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Option<String>,
    ) -> Result<Response> {
        let answer = self.once(method.clone(), path, headers, body.clone()).await?;
        if answer.status == 401 && self.token.reread() {
            return self.once(method, path, headers, body).await;
        }
        Ok(answer)
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Option<String>,
    ) -> Result<Response> {
        if let Some(reason) = self.socket.as_deref().and_then(doubt) {
            return Err(SecretsError::SecretsUnavailable(format!(
                "the daemon's socket can't be used: {reason}"
            )));
        }
        let mut request = self.client()?.request(method, format!("{}{path}", self.base));
        if let Some(identity) = &self.identity {
            request = request.header("X-Jarvis-Client", identity);
        }
        if let Some(instance) = &self.instance {
            request = request.header("X-Jarvis-Instance", instance);
        }
        if let Some(bearer) = self.token.header()? {
            request = request.header(AUTHORIZATION, bearer);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let exchange = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let body = Zeroizing::new(answer.bytes().await?.to_vec());
            Ok(Response { status, body, headers })
        };
        exchange.await.map_err(|error: reqwest::Error| {
            let why = self.why(&error);
            SecretsError::SecretsUnavailable(format!("jarvis-secretsd at {} can't be asked: {why}", self.shown))
        })
    }

    /// Says why there is no answer, in words without anything that was sent.
    fn why(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} s", self.timeout.as_secs_f64());
        }
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                return self.why_no_tls(tls);
            }
            cause = match inner.downcast_ref::<std::io::Error>() {
                // What it was made of is not its source, but that one's source is.
                Some(io) => match io.get_ref() {
                    Some(wrapped) => Some(wrapped),
                    None => return format!("{}{}", io.kind(), self.why_hung_up()),
                },
                None => inner.source(),
            };
        }
        if error.is_connect() {
            "it can't be reached".into()
        } else {
            format!("it hung up{}", self.why_hung_up())
        }
    }

    fn why_no_tls(&self, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InvalidCertificate(why) => {
                format!("its certificate is not trusted ({why:?}); JARVIS_SECRETS_CA_FILE names whom to trust")
            }
            other => format!("{other}{}", self.why_hung_up()),
        }
    }

    /// With TLS 1.3 a server says no more to a certificate that it refuses than that it hangs up.
    fn why_hung_up(&self) -> &'static str {
        match (self.is_tls, &self.tls.cert) {
            (false, _) => "",
            (true, None) => "; does it ask for a client certificate (JARVIS_CLIENT_CERT_FILE)?",
            (true, Some(_)) => "; does it let this client certificate in?",
        }
    }

    /// Returns the connections; new ones when the files for TLS have changed: a certificate is renewed while its service
    /// runs. Files that are just being replaced may not fit for a moment: what was read before still does.
    fn client(&self) -> Result<Client> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.tls.stamp().and_then(|stamp| match &*kept {
            Some((seen, client)) if *seen == stamp => Ok((stamp, client.clone())),
            _ => self.build().map(|client| (stamp, client)),
        });
        match (outcome, &*kept) {
            (Ok((stamp, client)), _) => {
                *kept = Some((stamp, client.clone()));
                Ok(client)
            }
            (Err(_), Some((_, client))) => Ok(client.clone()),
            (Err(Unfit::Unreadable(why)), None) => Err(SecretsError::SecretsUnavailable(why)),
            (Err(Unfit::Wrong(why)), None) => Err(SecretsError::Settings(why)),
        }
    }

    fn build(&self) -> std::result::Result<Client, Unfit> {
        let tls = if self.is_tls {
            self.tls.load()?
        } else {
            trusting_nobody()?
        };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(CONNECTIONS)
            .timeout(self.timeout);
        if let Some(socket) = &self.socket {
            builder = builder.unix_socket(socket.clone());
        }
        builder
            .build()
            .map_err(|_| Unfit::Wrong("no HTTP client can be made".into()))
    }
}

fn wrong<T>(why: &str) -> Result<T> {
    Err(SecretsError::Settings(why.into()))
}

/// Returns the base that paths are appended to, and the socket for `unix:///path`.
fn parse_url(text: &str) -> Result<(String, Option<PathBuf>)> {
    let form = "the daemon's URL is http://host:port, https://host:port or unix:///path";
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.starts_with('/') {
            Ok(("http://localhost".into(), Some(path.into())))
        } else {
            wrong(form)
        };
    }
    // `Url` would take it out without a word.
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return wrong(form);
    }
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong("the daemon's URL holds credentials: give a token or a token file instead")
        }
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.query().is_none() && url.fragment().is_none() => {
            match url.port() {
                Some(0) => wrong(form),
                _ => Ok((text.trim_end_matches('/').to_owned(), None)),
            }
        }
        _ => wrong(form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_https_or_a_socket() {
        assert_eq!(parse_url("unix:///run/s.sock").unwrap().1, Some("/run/s.sock".into()));
        assert_eq!(
            parse_url("http://127.0.0.1:8081/").unwrap(),
            ("http://127.0.0.1:8081".into(), None)
        );
        for url in [
            "",
            "localhost:8081",
            "ftp://a",
            "unix://run",
            "unix:/run",
            "http://",
            "http://a?b",
            "http://a#b",
            "http://u:p@a",
            "http://[::1",
            "http://a:x",
            "http://a:0",
            "http://a:65536",
            " http://a",
            "http://a\nX: y",
        ] {
            let refused = parse_url(url).unwrap_err();
            assert!(
                matches!(&refused, SecretsError::Settings(said) if !said.contains("u:p")),
                "{url}"
            );
        }
    }
}

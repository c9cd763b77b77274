//! The HTTP shell around the commands: who may ask, how much at a time, how a body is read, and in
//! which language a problem speaks. Meaning lives in the noun files.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::Admin;
use crate::admin::error::{Code, Lang, Problem};
use crate::admin::socket::Actor;
use crate::admin::{batch, call, card, ledger, money, number, operator, project, system, target, tariff};

/// Every route; the same on both doors.
pub fn router(admin: Arc<Admin>) -> Router {
    let api = Router::new()
        .merge(project::routes())
        .merge(number::routes())
        .merge(target::routes())
        .merge(card::routes())
        .merge(money::routes())
        .merge(batch::routes())
        .merge(tariff::routes())
        .merge(operator::routes())
        .merge(call::routes())
        .merge(ledger::routes())
        .merge(system::routes());
    Router::new()
        .nest("/api/v1", api)
        .merge(system::health_routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), bounded))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), allowed))
        .layer(middleware::from_fn(in_words))
        .with_state(admin)
}

/// A JSON body whose unknown fields are refused by name. No body is an empty object.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return Problem::new(
                    Code::BodyTooLarge,
                    format!("Höchstens {MAX_BODY} Bytes."),
                    format!("At most {MAX_BODY} bytes."),
                );
            }
            bad_json("the body broke off")
        })?;
        let text = if bytes.trim_ascii().is_empty() {
            b"{}"
        } else {
            bytes.as_ref()
        };
        serde_json::from_slice(text).map(Json).map_err(|e| explain(&e))
    }
}

/// Query parameters, as strict as a body.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, Problem> {
        Query::<T>::from_request_parts(parts, state)
            .await
            .map(|Query(value)| Params(value))
            .map_err(|rejection| explain_text(&rejection.body_text()))
    }
}

/// The `Idempotency-Key` header: 1 to 64 printable characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for OrderKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<OrderKey, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(OrderKey(None));
        };
        value
            .to_str()
            .ok()
            .map(|text| text.trim().trim_matches('"'))
            .filter(|text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()))
            .map(|text| OrderKey(Some(text.to_owned())))
            .ok_or_else(|| {
                Problem::new(
                    Code::KeyInvalid,
                    "Ein Idempotency-Key hat 1 bis 64 druckbare ASCII-Zeichen ohne Leerzeichen.",
                    "An Idempotency-Key has 1 to 64 printable ASCII characters and no blanks.",
                )
            })
    }
}

/// `?dry_run=true`: the answer that the order would get now, and nothing is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DryRun(pub bool);

impl DryRun {
    /// Says so in the answer; a PIN that nobody has is not shown.
    pub fn mark(self, mut document: Value) -> Value {
        if self.0
            && let Some(fields) = document.as_object_mut()
        {
            fields.remove("pin");
            fields.remove("handover");
            fields.insert("dry_run".to_owned(), Value::Bool(true));
        }
        document
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DryRun {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<DryRun, Problem> {
        for part in parts.uri.query().unwrap_or_default().split('&') {
            match part.split_once('=').unwrap_or((part, "true")) {
                ("dry_run", "true") => return Ok(DryRun(true)),
                ("dry_run", "false") | ("", _) => {}
                ("dry_run", _) => {
                    return Err(Problem::new(
                        Code::BadValue,
                        "dry_run: true oder false.",
                        "dry_run: true or false.",
                    )
                    .field("dry_run"));
                }
                (name, _) => {
                    return Err(Problem::new(
                        Code::UnknownField,
                        format!("Den Parameter „{name}“ gibt es hier nicht. Bekannt: `dry_run`."),
                        format!("There is no parameter \"{name}\" here. Known: `dry_run`."),
                    )
                    .field(name));
                }
            }
        }
        Ok(DryRun(false))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Actor, Problem> {
        ConnectInfo::<Actor>::from_request_parts(parts, state)
            .await
            .map(|ConnectInfo(actor)| actor)
            .map_err(|rejection| Problem::internal(rejection.body_text()))
    }
}

/// A JSON document as the answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub document: Value,
}

impl Answer {
    pub fn ok(document: Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            document,
        }
    }

    pub fn created(document: Value) -> Answer {
        Answer {
            status: StatusCode::CREATED,
            document,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Answers hold PINs and numbers.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// What every handler returns.
pub type Outcome = Result<Answer, Problem>;

/// Outermost: turns a problem into words of the request's language.
async fn in_words(request: Request, next: Next) -> Response {
    let lang = language(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if let Some(cause) = &problem.internal {
            tracing::error!(%method, path, code = %problem.code, cause, "an admin command failed");
        }
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut rendered = problem.render(lang);
        if let Some(allow) = allow {
            rendered.headers_mut().insert(header::ALLOW, allow);
        }
        return rendered;
    }
    if response.status().is_client_error() {
        // A refusal by the framework itself, such as a path that is no UTF-8.
        return Problem::new(
            Code::BadValue,
            "Der Pfad ist nicht lesbar.",
            "The path is not readable.",
        )
        .render(lang);
    }
    response
}

fn language(headers: &HeaderMap) -> Lang {
    headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|v| v.to_str().ok())
        .map(Lang::from_header)
        .unwrap_or_default()
}

/// TCP clients show the token and a loopback Host (a web page elsewhere may have rebound its name
/// to us). The Unix socket's file mode has decided already.
async fn allowed(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(actor): ConnectInfo<Actor>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match actor {
        Actor::Uid(_) => Ok(next.run(request).await),
        Actor::Tcp => {
            let host = header_text(request.headers(), &header::HOST);
            if !is_loopback_host(host) {
                return Err(Problem::new(
                    Code::HostForbidden,
                    "Über TCP antworten nur 127.0.0.1, [::1] und localhost.",
                    "Over TCP only 127.0.0.1, [::1] and localhost answer.",
                ));
            }
            let open = request.uri().path().starts_with("/health/");
            let shown = header_text(request.headers(), &header::AUTHORIZATION)
                .strip_prefix("Bearer ")
                .unwrap_or("");
            let right = admin
                .token
                .as_ref()
                .is_some_and(|token| same(token.expose().as_bytes(), shown.trim().as_bytes()));
            if !open && !right {
                return Err(Problem::new(
                    Code::TokenMissing,
                    "Über TCP bitte „Authorization: Bearer …“ mit dem Inhalt der Token-Datei (admin.token_file) senden, oder den Unix-Socket benutzen.",
                    "Over TCP send \"Authorization: Bearer ...\" with the content of the token file (admin.token_file), or use the Unix socket.",
                ));
            }
            Ok(next.run(request).await)
        }
    }
}

/// At most so many commands at work, each for a bounded time. A command runs in a task of its own:
/// a client that leaves halfway must not leave a half-told switch behind, and a panic stays with
/// its request.
async fn bounded(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Result<Response, Problem> {
    let Ok(permit) = Arc::clone(&admin.at_work.0).try_acquire_owned() else {
        return Err(Problem::new(
            Code::Overloaded,
            "Zu viele Aufträge zugleich. Bitte gleich noch einmal versuchen.",
            "Too many commands at a time. Please try again in a moment.",
        ));
    };
    // The check reads all books, which may be millions of rows.
    let longest = match request.uri().path().ends_with("/ledger/check") {
        true => LONGEST_CHECK,
        false => LONGEST,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a command must end even when its client leaves"
    )]
    let at_work = tokio::spawn(async move {
        let outcome = tokio::time::timeout(longest, next.run(request)).await;
        drop(permit);
        outcome
    });
    match at_work.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(Problem::new(
            Code::TimedOut,
            "Der Auftrag dauerte zu lange und wurde abgebrochen. Bitte den Stand prüfen; mit demselben Idempotency-Key ist Wiederholen gefahrlos.",
            "The command took too long and was given up. Please check; repeating it with the same Idempotency-Key is safe.",
        )),
        Err(broken) => Err(Problem::internal(broken)),
    }
}

async fn no_route(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(100).collect();
    Problem::new(
        Code::NoRoute,
        format!("{path} gibt es nicht. Die Befehle liegen unter /api/v1/, zum Beispiel /api/v1/projects."),
        format!("There is no {path}. The commands are under /api/v1/, such as /api/v1/projects."),
    )
}

async fn no_method(request: Request) -> Problem {
    let method = request.method();
    Problem::new(
        Code::MethodNotAllowed,
        format!("{method} gibt es für diesen Pfad nicht."),
        format!("This path has no {method}."),
    )
}

fn header_text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Compares without telling by its duration where the two differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}

fn bad_json(detail: &str) -> Problem {
    Problem::new(
        Code::BadJson,
        format!("Der Inhalt ist kein lesbares JSON-Objekt: {detail}"),
        format!("The body is not a readable JSON object: {detail}"),
    )
}

fn explain(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.is_data() {
        return explain_text(&text);
    }
    bad_json(&text)
}

/// Sorts serde's words: it names the field between backquotes.
fn explain_text(text: &str) -> Problem {
    let name = text.split('`').nth(1).unwrap_or("").to_owned();
    if text.contains("unknown field") {
        let known = text.split_once("expected ").map_or("", |(_, rest)| rest);
        let known = known.split(" at line").next().unwrap_or("");
        return Problem::new(
            Code::UnknownField,
            format!("Das Feld „{name}“ gibt es hier nicht. Bekannt: {known}."),
            format!("There is no field \"{name}\" here. Known: {known}."),
        )
        .field(name);
    }
    if text.contains("missing field") {
        return Problem::new(
            Code::MissingField,
            format!("Das Feld „{name}“ fehlt."),
            format!("The field \"{name}\" is missing."),
        )
        .field(name);
    }
    Problem::new(
        Code::BadValue,
        format!("Ein Wert passt nicht: {text}"),
        format!("A value does not fit: {text}"),
    )
}

/// How long one command may take; shorter than the client's patience.
const LONGEST: Duration = Duration::from_secs(20);
const LONGEST_CHECK: Duration = Duration::from_secs(3600);
/// Largest request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_may_be_asked_for() {
        for (host, fine) in [
            ("127.0.0.1:8080", true),
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback_host(host), fine, "{host}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"ab"));
        assert!(!same(b"abc", b""));
    }
}

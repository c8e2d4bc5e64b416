//! The client and the choice between an embedded and an external registry.

use std::time::Duration;

use hub_registry::{Client, ClientError, Password, Patience, RegistrySettings, Schemas};

use crate::fixture::{Served, record};

fn settings(url: &str) -> RegistrySettings {
    RegistrySettings { url: url.to_owned(), ..RegistrySettings::default() }
}

fn hasty() -> Patience {
    Patience { request: Duration::from_secs(5), retries: 1, first_wait: Duration::from_millis(10) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_and_an_external_registry_are_used_in_the_same_way() {
    let served = Served::fresh("same").await;
    let external = Schemas::External(Client::new(settings(&served.url)).unwrap());
    let embedded = Schemas::Embedded(served.registry.clone());
    for (schemas, subject) in [(embedded, "embedded/1"), (external, "external/1")] {
        let (one, two) = (record(&subject.replace('/', "_"), &["a:int"]), record(&subject.replace('/', "_"), &["a:int", "b:int"]));
        assert_eq!(schemas.latest(subject).await.unwrap(), None);
        assert!(schemas.check(subject, &one).await.unwrap().compatible, "the first one always fits");
        let id = schemas.register(subject, &one).await.unwrap();
        assert_eq!(schemas.register(subject, &one).await.unwrap(), id);
        let latest = schemas.latest(subject).await.unwrap().unwrap();
        assert_eq!((latest.id, latest.version, &latest.schema), (id, 1, &one));
        assert_eq!(&*schemas.by_id(id).await.unwrap(), one);
        let judged = schemas.check(subject, &two).await.unwrap();
        assert!(!judged.compatible);
        assert_eq!(judged.messages.len(), 4);
        match schemas.register(subject, &two).await.unwrap_err() {
            ClientError::Incompatible { messages } => assert_eq!(messages, judged.messages),
            other => panic!("{other}"),
        }
        assert!(matches!(schemas.register(subject, "\"nothing\"").await, Err(ClientError::Invalid { code: 42201, .. })));
        assert!(matches!(schemas.by_id(9_999).await, Err(ClientError::Missing { code: 40403, .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_by_id_is_not_asked_for_again() {
    let served = Served::fresh("cached").await;
    let client = Client::with_patience(settings(&served.url), hasty()).unwrap();
    let id = client.register("s", "\"int\"").await.unwrap();
    assert_eq!(&*client.by_id(id).await.unwrap(), "\"int\"");
    drop(served);
    assert_eq!(&*client.by_id(id).await.unwrap(), "\"int\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_a_login_answers_to_its_user_only() {
    let served = Served::behind_login("login", "hub", "pass:wörd").await;
    let with = |user: &str, password: &str| {
        let login = RegistrySettings { user: Some(user.to_owned()), password: Some(Password::new(password)), ..settings(&served.url) };
        Client::with_patience(login, hasty()).unwrap()
    };
    assert_eq!(with("hub", "pass:wörd").register("s", "\"int\"").await.unwrap(), 1);
    for client in [with("hub", "wrong"), with("other", "pass:wörd"), Client::new(settings(&served.url)).unwrap()] {
        let error = client.latest("s").await.unwrap_err();
        assert!(matches!(error, ClientError::Denied { .. }) && !error.is_retriable(), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_asked_again_and_then_called_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::with_patience(settings(&format!("http://{free}")), hasty()).unwrap();
    let error = client.register("s", "\"int\"").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.is_retriable(), "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_comes_back_meanwhile_is_used() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let answer = async move || {
        if counter.fetch_add(1, Ordering::Relaxed) < 2 { (503, "busy".to_owned()) } else { (200, r#"{"id":7}"#.to_owned()) }
    };
    let handler = move || {
        let answer = answer.clone();
        async move {
            let (status, body) = answer().await;
            (axum::http::StatusCode::from_u16(status).unwrap(), body)
        }
    };
    let router = axum::Router::new().route("/base/subjects/s/versions", axum::routing::post(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let patience = Patience { retries: 2, ..hasty() };
    let client = Client::with_patience(settings(&url), patience).unwrap();
    assert_eq!(client.register("s", "\"int\"").await.unwrap(), 7);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    server.abort();
}

//! Which requests are measured.

use std::{fmt, sync::Arc};

use http::{Method, request::Parts};

use super::passed;
use crate::{
    catch::catch_panic,
    vocabulary::Endpoint,
    wire::{Route, route, segments},
};

/// The known endpoints, and those that the embedder added.
#[derive(Clone, Default)]
pub(super) struct Routes {
    pub(super) ollama: bool,
    own: Option<Arc<CustomRoutes>>,
}

#[derive(Clone, Default)]
struct CustomRoutes {
    /// Paths, each with the endpoint whose format it has.
    paths: Vec<(Arc<str>, Endpoint)>,
    functions: Vec<EndpointFn>,
}

type EndpointFn = Arc<dyn Fn(&Parts) -> Option<Endpoint> + Send + Sync>;

/// How a request is treated.
pub(super) enum RouteMatch {
    Known(&'static Route),
    /// Its path is unknown; with the end of the path, if paths of LLM APIs end like that.
    Unknown {
        word: Option<&'static str>,
    },
    /// It is not measured.
    NotMeasured,
}

impl Routes {
    pub(super) fn own(&mut self, path: Arc<str>, endpoint: Endpoint) {
        self.change().paths.push((path, endpoint));
    }

    pub(super) fn by_function(&mut self, endpoint: EndpointFn) {
        self.change().functions.push(endpoint);
    }

    fn change(&mut self) -> &mut CustomRoutes {
        Arc::make_mut(self.own.get_or_insert_default())
    }

    pub(super) fn find(&self, head: &Parts) -> RouteMatch {
        if head.method != Method::POST {
            return RouteMatch::NotMeasured;
        }
        let path = path(head);
        if let Some(endpoint) = self.own.as_ref().and_then(|own| own.endpoint(head, path)) {
            return Route::of(endpoint).map_or(RouteMatch::NotMeasured, RouteMatch::Known);
        }
        let known = route(&head.method, path, self.ollama);
        known.map_or_else(|| RouteMatch::Unknown { word: passed::word(path) }, RouteMatch::Known)
    }
}

impl CustomRoutes {
    fn endpoint(&self, head: &Parts, path: &str) -> Option<Endpoint> {
        let named = self.paths.iter().find(|(pattern, _)| matches(pattern, path)).map(|(_, endpoint)| *endpoint);
        named.or_else(|| self.functions.iter().find_map(|function| catch_panic(|| function(head))?))
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.own.as_ref().map_or(&[][..], |own| &own.paths);
        f.debug_struct("Routes").field("ollama", &self.ollama).field("paths", &paths).finish_non_exhaustive()
    }
}

fn path(head: &Parts) -> &str {
    // A nested router has removed its prefix from the path.
    #[cfg(feature = "axum")]
    if let Some(original) = head.extensions.get::<axum::extract::OriginalUri>() {
        return original.0.path();
    }
    head.uri.path()
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (segments(pattern), segments(path));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(expected), Some(segment)) if expected == segment => {}
            (Some(expected), Some(_)) if expected.starts_with('{') && expected.ends_with('}') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn endpoint(routes: &Routes, request: http::request::Builder) -> Option<Endpoint> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        if let RouteMatch::Known(route) = routes.find(&head) { Some(route.endpoint) } else { None }
    }

    fn find(routes: &Routes, path: &str) -> Option<Endpoint> {
        endpoint(routes, Request::post(path))
    }

    #[test]
    fn a_custom_path_has_the_given_endpoint() {
        let mut routes = Routes::default();
        routes.own("/tenants/{tenant}/ask".into(), Endpoint::ChatCompletions);
        routes.own("/internal/v1/messages".into(), Endpoint::Other);
        routes.own("/half/{open".into(), Endpoint::Completions);
        routes.own("/half/closed}".into(), Endpoint::Completions);
        assert_eq!(find(&routes, "/tenants/a/ask"), Some(Endpoint::ChatCompletions));
        assert_eq!(find(&routes, "/tenants/a/ask/"), Some(Endpoint::ChatCompletions));
        assert_eq!(find(&routes, "/tenants/a/b/ask"), None);
        assert_eq!(find(&routes, "/tenants/ask"), None);
        assert_eq!(find(&routes, "/half/a"), None, "a single brace is not a placeholder");
        assert_eq!(find(&routes, "/internal/v1/messages"), None);
        assert_eq!(find(&routes, "/v1/messages"), Some(Endpoint::Messages));
        assert_eq!(endpoint(&routes, Request::get("/tenants/a/ask")), None);
    }

    #[test]
    fn a_function_decides_the_endpoint_before_the_paths() {
        let mut routes = Routes::default();
        routes.own("/internal/v1/messages".into(), Endpoint::Messages);
        routes.by_function(Arc::new(|head| match head.headers.get("x-format")?.as_bytes() {
            b"chat" => Some(Endpoint::ChatCompletions),
            b"none" => Some(Endpoint::Other),
            b"panic" => panic!("on purpose"),
            _ => None,
        }));
        let with = |format: &str, path: &str| endpoint(&routes, Request::post(path).header("x-format", format));
        assert_eq!(with("chat", "/ask"), Some(Endpoint::ChatCompletions));
        assert_eq!(with("none", "/v1/messages"), None);
        assert_eq!(with("?", "/v1/messages"), Some(Endpoint::Messages));
        assert_eq!(with("panic", "/v1/messages"), Some(Endpoint::Messages), "a panic counts as `None`");
        assert_eq!(
            with("chat", "/internal/v1/messages"),
            Some(Endpoint::Messages),
            "a path has precedence over a function"
        );
        assert_eq!(find(&routes, "/ask"), None);
    }

    #[test]
    fn ollama_is_opt_in() {
        assert_eq!(find(&Routes::default(), "/api/chat"), None);
        assert_eq!(find(&Routes { ollama: true, ..Routes::default() }, "/api/chat"), Some(Endpoint::OllamaChat));
    }
}

//! Selects the upstream of a request.

use std::sync::Arc;

use http::{
    Uri,
    uri::{InvalidUri, PathAndQuery},
};

use crate::program::upstream::Upstream;

/// The upstreams, and how they are selected: first by path, then by model, then the default.
pub(crate) struct Routes {
    /// Longest first.
    prefixes: Vec<(String, Arc<Upstream>)>,
    /// Longest first, whole names before prefixes.
    models: Vec<(Pattern, Arc<Upstream>)>,
    rest: Option<Arc<Upstream>>,
}

/// A model's name, or a prefix of names.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Beginning(String),
}

impl Routes {
    pub(crate) fn new(upstreams: &[Arc<Upstream>]) -> Self {
        let mut routes = Self { prefixes: Vec::new(), models: Vec::new(), rest: None };
        for upstream in upstreams {
            let config = &upstream.config;
            match (&config.path_prefix, &config.models[..]) {
                (Some(prefix), _) => routes.prefixes.push((prefix.clone(), Arc::clone(upstream))),
                (None, []) => routes.rest = Some(Arc::clone(upstream)),
                (None, models) => {
                    let patterns = models.iter().map(|model| (Pattern::new(model), Arc::clone(upstream)));
                    routes.models.extend(patterns);
                }
            }
        }
        routes.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        routes.models.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.weight()));
        routes
    }

    /// The upstream for a path, and the path without its prefix.
    pub(crate) fn by_path(&self, uri: &Uri) -> Option<(&Arc<Upstream>, Result<PathAndQuery, InvalidUri>)> {
        let path = uri.path();
        let names =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let (prefix, upstream) = self.prefixes.iter().find(|(prefix, _)| names(prefix))?;
        let whole = uri.path_and_query().map_or(path, PathAndQuery::as_str);
        let rest = &whole[prefix.len()..];
        let rest = if rest.starts_with('/') { rest.parse() } else { format!("/{rest}").parse() };
        Some((upstream, rest))
    }

    /// Whether the model is needed to select an upstream.
    pub(crate) fn need_model(&self) -> bool {
        !self.models.is_empty()
    }

    /// The upstream for a model, or for a request without a known model.
    pub(crate) fn by_model(&self, model: Option<&str>) -> Option<&Arc<Upstream>> {
        let named = model.and_then(|model| self.models.iter().find(|(pattern, _)| pattern.matches(model)));
        named.map(|(_, upstream)| upstream).or(self.rest.as_ref())
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Beginning(beginning.to_owned()),
            None => Self::Name(text.to_owned()),
        }
    }

    fn matches(&self, model: &str) -> bool {
        match self {
            Self::Name(name) => model == name,
            Self::Beginning(beginning) => model.starts_with(beginning),
        }
    }

    fn weight(&self) -> (bool, usize) {
        match self {
            Self::Name(name) => (true, name.len()),
            Self::Beginning(beginning) => (false, beginning.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{config::Config, record::registrar};

    fn routes(text: &str) -> Routes {
        let (recorder, _exporter) = llm_metrics::prometheus::Exporter::builder().build().unwrap();
        let registrar = registrar(recorder);
        let upstreams = Config::parse(text).unwrap().upstreams.into_iter();
        let upstreams: Vec<_> =
            upstreams.map(|upstream| Arc::new(Upstream::new(upstream, &registrar).unwrap())).collect();
        Routes::new(&upstreams)
    }

    fn by_path(routes: &Routes, path: &str) -> Option<(String, String)> {
        let uri = path.parse().unwrap();
        let (upstream, rest) = routes.by_path(&uri)?;
        Some((upstream.config.name.clone(), rest.unwrap().to_string()))
    }

    #[test]
    fn a_prefix_matches_whole_segments_and_is_removed() {
        let routes = routes(
            "[upstreams.a]\nurl = \"http://x\"\npath_prefix = \"/a\"\n[upstreams.ab]\nurl = \"http://y\"\npath_prefix = \"/a/b\"",
        );
        let found = |path: &str| by_path(&routes, path);
        let is = |name: &str, rest: &str| Some((name.to_owned(), rest.to_owned()));
        assert_eq!(found("/a/v1/models?x=/a%2F"), is("a", "/v1/models?x=/a%2F"));
        assert_eq!(found("/a/b/v1"), is("ab", "/v1"), "the longer one wins");
        assert_eq!(found("/a"), is("a", "/"));
        assert_eq!(found("/a?q=1"), is("a", "/?q=1"));
        assert_eq!(found("/a//v1"), is("a", "//v1"), "the rest is not touched");
        assert_eq!(found("/abc"), None);
        assert_eq!(found("/v1/a"), None);
    }

    #[test]
    fn a_whole_name_precedes_a_prefix_and_a_long_prefix_a_short_one() {
        let routes = routes(
            r#"
            [upstreams.all]
            url = "http://x"
            models = ["*"]
            [upstreams.qwen]
            url = "http://x"
            models = ["Qwen/*"]
            [upstreams.one]
            url = "http://x"
            models = ["Qwen/Qwen3-4B"]
            "#,
        );
        let name = |model: Option<&str>| routes.by_model(model).map(|upstream| upstream.config.name.as_str());
        assert_eq!(name(Some("Qwen/Qwen3-4B")), Some("one"));
        assert_eq!(name(Some("Qwen/Qwen3-14B")), Some("qwen"));
        assert_eq!(name(Some("llama")), Some("all"));
        assert_eq!(name(None), None, "nobody gets what names no model");
    }

    #[test]
    fn an_upstream_without_rules_gets_all_other_requests() {
        let routes = routes("[upstreams.a]\nurl = \"http://x\"\nmodels = [\"m\"]\n[upstreams.b]\nurl = \"http://y\"");
        let name = |model: Option<&str>| routes.by_model(model).map(|upstream| upstream.config.name.as_str());
        assert_eq!((name(Some("m")), name(Some("n")), name(None)), (Some("a"), Some("b"), Some("b")));
        assert!(routes.need_model());
    }
}

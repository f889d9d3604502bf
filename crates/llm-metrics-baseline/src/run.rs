//! A whole run: from settings to a baseline.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, Limited};

use crate::{
    InvalidPrompts, InvalidSettings, InvalidTarget,
    baseline::{Baseline, Ended, SCHEMA_VERSION, Server, Step, StepEnded, Verdict},
    client::Asker,
    connection::{self, ConnectError, Connector, HttpClient},
    figure, findings, machine,
    observation::{End, Failure, Observation},
    progress::Progress,
    search,
    server::{self, GpuReader, Names, Scraper, ServerView, Watch},
    settings::{Rates, Settings},
    step::{StepRun, StepSeen},
    stop::Stop,
    target::Target,
    tls::{self, TlsError},
    views,
    workload::Draws,
};

/// Requests without other load; the first one does not count, because it may have to load the model.
const ALONE: usize = 4;
const MOST_MEMORY_POINTS: usize = 1000;
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of consecutive failed requests after which the server counts as gone: one may fail by chance.
const LAST_TRIES: usize = 3;
/// The maximum number of names in an error message.
const MOST_NAMES: usize = 10;

/// Permissions and secrets, which are not written to files.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Access {
    /// Sent as `Authorization: Bearer …`, to Anthropic's API as `x-api-key`. Not written to files.
    pub key: Option<String>,
    /// The user has confirmed that a server on another machine may be load-tested.
    pub anywhere: bool,
    /// Certificates (PEM) of trusted CAs, in addition to the platform's.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key: _, anywhere, ca_file } = self;
        f.debug_struct("Access").field("anywhere", anywhere).field("ca_file", ca_file).finish_non_exhaustive()
    }
}

/// Why a load test could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The target is invalid.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// There are no prompts.
    #[error(transparent)]
    Prompts(#[from] InvalidPrompts),
    /// The metrics prefix is invalid.
    #[error("the metrics prefix is invalid")]
    Prefix(#[from] llm_metrics::catalog::InvalidPrefix),
    /// The API key is not a valid header value.
    #[error("the API key has characters that are not allowed in a header")]
    Key,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS handshake failed.
    #[error(
        "{target}: the TLS handshake failed. The server needs a certificate for this name from a CA that this machine trusts: \
         name the CA with --ca-file, or with SSL_CERT_FILE"
    )]
    Handshake {
        /// The given target.
        target: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The model is unknown.
    #[error("{target}: {why}: name the model with --model")]
    NoModel {
        /// The given target.
        target: String,
        /// Why it is unknown.
        why: String,
    },
    /// The server is unreachable.
    #[error("{target}: {why}: is the server running there?")]
    Unreachable {
        /// The given target.
        target: String,
        /// The cause.
        why: String,
    },
}

/// Load-tests a server and returns the results. It ends by itself, or when `stop` completes, with the results up to then.
///
/// # Errors
/// If the settings make a measurement impossible. A server that does not answer is not an error but a finding.
pub async fn run(
    mut settings: Settings,
    access: Access,
    stop: impl Future<Output = ()> + Send + 'static,
    report: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Baseline, RunError> {
    settings.check()?;
    let prompts = settings.workload.prompts.load()?;
    let names = Names::ours(&settings.metrics_prefix)?;
    let gpu = GpuReader::new(&settings.gpu_metrics_prefix)?;
    let root = api_root(&settings.target);
    let target = Target::resolve(root, access.anywhere)?;
    let metrics = if settings.metrics.is_empty() {
        vec![Target::resolve(&format!("{root}/metrics"), access.anywhere)?]
    } else {
        settings.metrics.iter().map(|text| Target::resolve(text, access.anywhere)).collect::<Result<_, _>>()?
    };
    let key = access.key.map(|key| HeaderValue::from_str(&key).map_err(|_| RunError::Key)).transpose()?;
    let has_tls = std::iter::once(&target).chain(&metrics).any(|target| target.certificate.is_some());
    let tls = (has_tls || access.ca_file.is_some()).then(|| tls::connector(access.ca_file.as_deref())).transpose()?;
    let connector = |target: &Target| Connector::new(target, tls.as_ref());
    // Any other failure to connect becomes a finding.
    if target.certificate.is_some()
        && let Err(ConnectError::Tls(source)) = connector(&target).connect().await
    {
        return Err(RunError::Handshake { target: settings.target, source });
    }
    let http = connection::client(connector(&target), settings.limits.in_flight as usize);
    if settings.model.is_empty() {
        settings.model = only_model(&http, &target, &settings.target, settings.protocol.headers(key.as_ref())).await?;
    }
    // Scrapes have separate connections: they do not wait for requests, and requests do not wait for them.
    let metrics = metrics.into_iter().map(|target| (connection::client(connector(&target), 1), target)).collect();

    let asker = Asker {
        http,
        target,
        protocol: settings.protocol,
        key,
        timeout: Duration::from_secs_f64(settings.limits.request_seconds),
        silence: Duration::from_secs_f64(settings.limits.silence_seconds),
    };
    let scraper = Scraper::new(metrics, &settings.model, gpu);
    let (stop, _waiting) = Stop::when(stop);
    let epoch = Instant::now();
    let run = Run {
        deadline: epoch + Duration::from_secs_f64(settings.limits.seconds),
        draws: Draws::new(&settings.workload, prompts, settings.seed),
        requests_left: settings.limits.requests,
        steps: Vec::new(),
        server: Server::default(),
        findings: Vec::new(),
        watch: None,
        settings,
        asker,
        scraper,
        stop,
        epoch,
    };
    Ok(run.all(names, report).await)
}

struct Run {
    settings: Settings,
    asker: Asker,
    scraper: Scraper,
    watch: Option<Watch>,
    stop: Stop,
    epoch: Instant,
    deadline: Instant,
    draws: Draws,
    requests_left: u64,
    steps: Vec<Step>,
    server: Server,
    findings: Vec<String>,
}

impl Run {
    async fn all(mut self, names: Names, report: &mut (dyn FnMut(Progress<'_>) + Send)) -> Baseline {
        let started_at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.detect_metrics(names).await;
        let ended = match self.alone().await {
            Ok(()) => self.steps(report).await,
            Err(failure) => {
                self.findings.push(match failure {
                    Some(failure) => format!("The server did not answer the first requests, one at a time: {failure}. Nothing was measured."),
                    None => "The run was over before the first requests, one at a time, had their answers. Nothing was measured.".to_owned(),
                });
                self.over().unwrap_or(Ended::ServerFailing)
            }
        };
        let mut baseline = Baseline {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            seconds: self.epoch.elapsed().as_secs_f64(),
            ended,
            findings: self.findings,
            machine: machine::this(),
            server: self.server,
            settings: self.settings,
            knee: search::knee(&self.steps),
            objectives_held: search::objectives_held(&self.steps),
            steps: self.steps,
            memory: self.watch.map(|watch| watch.memory(MOST_MEMORY_POINTS)).unwrap_or_default(),
        };
        baseline.findings.extend(findings::of(&baseline));
        baseline
    }

    async fn detect_metrics(&mut self, names: Names) {
        match self.scraper.page().await {
            Ok(page) => {
                if !self.scraper.recognise(&page, names) {
                    self.findings.push(
                        "The metrics page has no known request metrics (llm-metrics or vLLM): the results \
                         only have the clients' measurements."
                            .to_owned(),
                    );
                }
                self.scraper.describe(&mut self.server, &page);
                self.watch = Some(self.scraper.watch(self.epoch));
            }
            Err(error) => {
                self.findings
                    .push(format!("No metrics were read ({error}): the results only have the clients' measurements."));
            }
        }
    }

    /// The latency of a request without other load.
    async fn alone(&mut self) -> Result<(), Option<Failure>> {
        let mut durations = Vec::new();
        for number in 0..ALONE {
            let seen = self.one().await.ok_or(None)?;
            if let Some(failure) = seen.failure() {
                return Err(Some(failure));
            }
            if number > 0 {
                durations.push((seen.ended - seen.scheduled).as_secs_f64());
            }
        }
        durations.sort_by(f64::total_cmp);
        self.server.unloaded_duration_seconds = Some(durations[durations.len() / 2]);
        Ok(())
    }

    /// Sends one request. `None` if the run must end.
    async fn one(&mut self) -> Option<Observation> {
        if self.requests_left == 0 || Instant::now() >= self.deadline {
            return None;
        }
        self.requests_left -= 1;
        let draw = self.draws.draw();
        let now = Instant::now();
        let question = draw.question(&self.settings.model);
        tokio::select! {
            seen = self.asker.ask(&question, None, now, now) => Some(seen),
            () = self.stop.set() => None,
            () = tokio::time::sleep_until(self.deadline.into()) => None,
        }
    }

    async fn steps(&mut self, report: &mut (dyn FnMut(Progress<'_>) + Send)) -> Ended {
        let alone = self.server.unloaded_duration_seconds.unwrap_or(1.0).max(0.001);
        let first = match &self.settings.rates {
            Rates::Search { start: Some(start), .. } => *start,
            _ => (0.5 / alone).max(0.001),
        };
        while let Some(rate) = search::next(&self.settings.rates, first, &self.steps) {
            if let Some(ended) = self.over() {
                return ended;
            }
            report(Progress::Started { rate, number: self.steps.len() + 1 });
            let step = self.step(rate, report).await;
            report(Progress::Ended(&step));
            let failing = step.verdict == Verdict::Failing || step.ended == StepEnded::Failing;
            let cut_off = step.ended == StepEnded::RunEnded;
            self.steps.push(step);
            if cut_off {
                break;
            }
            // A server that was only overloaded answers again without other load.
            if failing && !self.is_alive().await && !self.stop.is_set() {
                return Ended::ServerFailing;
            }
        }
        self.over().unwrap_or(Ended::Complete)
    }

    fn over(&self) -> Option<Ended> {
        if self.stop.is_set() {
            Some(Ended::Interrupted)
        } else if self.requests_left == 0 {
            Some(Ended::RequestLimit)
        } else if Instant::now() >= self.deadline {
            Some(Ended::TimeLimit)
        } else {
            None
        }
    }

    async fn is_alive(&mut self) -> bool {
        let began = Instant::now();
        for _ in 0..LAST_TRIES {
            if self.one().await.is_none_or(|seen| !matches!(seen.end, End::Failed(_))) {
                return true;
            }
            // After this long without an answer there is no need for another try.
            if began.elapsed() >= self.asker.silence {
                break;
            }
        }
        false
    }

    async fn step(&mut self, rate: f64, report: &mut (dyn FnMut(Progress<'_>) + Send)) -> Step {
        let started = self.epoch.elapsed();
        let before = self.scraper.page().await.ok();
        let model: Arc<str> = self.settings.model.as_str().into();
        let run = StepRun {
            asker: &self.asker,
            model,
            length: &self.settings.step,
            limits: &self.settings.limits,
            requests_left: self.requests_left,
            deadline: self.deadline,
            stop: self.stop.clone(),
        };
        let seed = self.settings.seed.wrapping_add(self.steps.len() as u64 + 1);
        let seen = run.hold(rate, seed, &mut self.draws, report).await;
        self.requests_left = self.requests_left.saturating_sub(seen.seen.len() as u64);
        let first = seen.seen.iter().filter_map(Observation::failure).find(|failure| failure.why.is_some());
        self.findings
            .extend(first.map(|failure| format!("The first failure at {} requests/s: {failure}.", figure(rate))));
        let after = self.scraper.page().await.ok();
        let server = before.zip(after).and_then(|(before, after)| self.server_view(started, [&before, &after], &seen));
        Step {
            rate,
            started: started.as_secs_f64(),
            warm_up_seconds: seen.from.as_secs_f64(),
            seconds: seen.seconds(),
            verdict: views::verdict(&seen, self.settings.step.least_seconds),
            ended: seen.ended,
            client: views::client_view(&seen),
            comparison: server.as_ref().map_or_else(Vec::new, |server| server::compare(&seen.seen, server)),
            server,
            attainment: self
                .settings
                .objectives
                .iter()
                .filter_map(|objective| objective.attainment(seen.measured()))
                .collect(),
            by_thinking: views::by_thinking(&seen),
            samples: views::samples(&seen),
        }
    }

    fn server_view(&self, started: Duration, pages: [&server::Page; 2], seen: &StepSeen) -> Option<ServerView> {
        let names = self.scraper.names()?;
        let readings = self.watch.as_ref().map(|watch| watch.between(started + seen.from, started + seen.to));
        let tokens = seen.seen.iter().map(views::output_tokens).sum();
        let model = self.scraper.model_label(pages[1]);
        let joules = self.scraper.energy(pages);
        Some(ServerView::new(names, model, pages, &readings.unwrap_or_default(), joules, tokens))
    }
}

/// Users may give the base URL that clients use, with `/v1` or `/api` at its end. It is removed, because the protocols add it to their paths.
fn api_root(text: &str) -> &str {
    let text = text.trim_end_matches('/');
    ["/v1", "/api"].iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text)
}

/// The only model that the server lists. `given` is the server's address as the user gave it.
async fn only_model(
    http: &HttpClient,
    target: &Target,
    given: &str,
    headers: http::HeaderMap,
) -> Result<String, RunError> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = target.uri("/v1/models");
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::HOST, target.host.clone());
    let no_model = |why: String| RunError::NoModel { target: given.to_owned(), why };
    let no_list = |why: &str| no_model(format!("the server does not list its models ({why})"));
    let listing = async {
        let response = http.request(request).await.map_err(|error| {
            let why = connection::cause(&error);
            if error.is_connect() { RunError::Unreachable { target: given.to_owned(), why } } else { no_list(&why) }
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(no_list(&format!("status {}", status.as_u16())));
        }
        let body = Limited::new(response.into_body(), 1 << 20).collect().await;
        let body = body.map_err(|error| no_list(&error.to_string()))?.to_bytes();
        let list: serde_json::Value = serde_json::from_slice(&body).map_err(|_| no_list("its response is not JSON"))?;
        let ids: Vec<_> =
            list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
        match ids.as_slice() {
            [id] => Ok((*id).to_owned()),
            [] => Err(no_model("the server lists no models".to_owned())),
            _ => {
                let more = if ids.len() > MOST_NAMES { ", …" } else { "" };
                let names = ids[..ids.len().min(MOST_NAMES)].join(", ");
                Err(no_model(format!("the server lists several models ({names}{more})")))
            }
        }
    };
    let listed = tokio::time::timeout(LIST_TIMEOUT, listing).await;
    listed.unwrap_or_else(|_| Err(no_list(&format!("no answer in {} s", LIST_TIMEOUT.as_secs()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_of_clients_is_the_same_server() {
        for text in ["http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/", "http://a:1/api"] {
            assert_eq!(api_root(text), "http://a:1", "{text}");
        }
        assert_eq!(api_root("http://a:1/llm/v1"), "http://a:1/llm");
        assert_eq!(api_root("http://a:1/v12"), "http://a:1/v12");
    }
}

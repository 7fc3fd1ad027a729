//! A real Prometheus scrapes the lab, and is asked everything that the dashboard asks.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::lab::settings::wait_until_up;
use tests::lab::{Defaults, Lab, eventually};

use crate::scrape::{get, scrape};
use crate::shipped;

const METRICS: &str = "127.0.0.1:9199";
const SOON: Duration = Duration::from_secs(60);

/// Queries that may have no result here, by a part of them, and why.
const MAY_BE_EMPTY: [(&str, &str); 2] = [
    ("changes(process_start_time_seconds", "the controller is not started again"),
    ("pcc_fast_path_outdated_total", "nothing becomes stale where the fast path is off"),
];

/// A Prometheus in the router, with its data in a folder of its own. Dropping it ends it.
struct Prometheus<'a> {
    lab: &'a Lab,
    child: Child,
    folder: tempfile::TempDir,
}

impl<'a> Prometheus<'a> {
    const ADDRESS: &'static str = "127.0.0.1:9090";

    fn start(lab: &'a Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let rules = shipped("alerts.yml").canonicalize().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs: [{{ job_name: pcc, static_configs: [{{ targets: [\"{METRICS}\"] }}] }}]\n",
            rules.display()
        );
        fs::write(path("prometheus.yml"), config).unwrap();
        let args = [
            format!("--config.file={}", path("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", path("data").display()),
            format!("--web.listen-address={}", Self::ADDRESS),
            "--log.level=warn".into(),
        ];
        let log = fs::File::create(path("log")).unwrap();
        let mut command = lab.router().command("prometheus", args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self { lab, child: child.unwrap_or_else(|error| panic!("prometheus: {error}")), folder }
    }

    /// What its API says, `None` while it does not answer.
    fn api(&self, path: &str) -> Option<Value> {
        let address: SocketAddr = Self::ADDRESS.parse().unwrap();
        let answer = get(self.lab.router(), address, "GET", path, "Accept-Encoding: identity\r\n").ok()?;
        // A long answer comes in chunks, each behind its length.
        let (mut body, mut rest) = (String::new(), answer.body.as_str());
        if answer.head.contains("transfer-encoding: chunked") {
            while let Some((length, data)) = rest.split_once("\r\n") {
                let length = usize::from_str_radix(length, 16).ok()?;
                body += data.get(..length)?;
                rest = data.get(length + 2..)?;
            }
        } else {
            body += rest;
        }
        serde_json::from_str(&body).ok()
    }

    /// The results of a query.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.api(&format!("/api/v1/query?query={escaped}")).ok_or("no answer")?;
        match answer["data"]["result"].as_array() {
            Some(result) if answer["status"] == "success" => Ok(result.clone()),
            _ => Err(answer.to_string()),
        }
    }

    /// The value of a query with one result.
    fn value(&self, expression: &str) -> Option<f64> {
        let result = self.query(expression).ok()?;
        let [one] = result.as_slice() else { return None };
        one["value"][1].as_str()?.parse().ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every expression of the dashboard with its title, the variables filled in.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()))
    });
    let annotations = dashboard["annotations"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| Some((it["name"].as_str()?.to_owned(), it["expr"].as_str()?.to_owned())));
    let fill =
        |text: &str| text.replace("$__rate_interval", "10s").replace("$__range", "1m").replace("$instance", ".*");
    queries.chain(annotations).map(|(title, expression)| (title, fill(&expression))).collect()
}

#[test]
fn prometheus_answers_every_query_of_the_dashboard_and_counts_a_fail_over() {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(shipped("grafana-dashboard.json")).unwrap()).unwrap();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "{}", expressions.len());

    let lab = Lab::builder().defaults(Defaults::All).build();
    let fields = ["--hash", "both-addresses-and-ports", "--metrics", METRICS];
    let pcc = lab.pcc(&[&["run", "--wan", "wan1,wan2", "--lan", "lan"], &fields[..]].concat());
    pcc.wait_for("ready", SOON);
    wait_until_up(&pcc, 0, &[1, 2]);
    let prometheus = Prometheus::start(&lab);
    let up = || prometheus.value("up{job=\"pcc\"}") == Some(1.0);
    assert!(eventually(SOON, up), "{:?}\n{}", prometheus.api("/api/v1/targets"), prometheus.log());
    let rules = prometheus.api("/api/v1/rules").unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().map_or(0, Vec::len);
    assert!(rules > 10, "the alerts are loaded: {rules}");

    // Old enough for rates.
    let busy = lab.busy_new(20);
    let mut missing = Vec::new();
    let complete = eventually(SOON, || {
        let _ = lab.try_new(10);
        missing.clear();
        for (title, expression) in &expressions {
            let may_be_empty = MAY_BE_EMPTY.iter().any(|(part, _)| expression.contains(part));
            match prometheus.query(expression) {
                Ok(result) if !result.is_empty() || may_be_empty => {}
                Ok(_) => missing.push(format!("{title}: nothing for {expression}")),
                Err(error) => missing.push(format!("{title}: {error}")),
            }
        }
        missing.is_empty()
    });
    assert!(complete, "{}", missing.join("\n"));

    // What `pcc status` says, seen by Prometheus.
    let fail_overs = "sum(pcc_uplink_fail_overs_total{uplink=\"wan2\"})";
    assert_eq!(prometheus.value(fail_overs), Some(0.0));
    lab.carrier(2, false);
    assert!(eventually(SOON, || prometheus.value(fail_overs) == Some(2.0)), "{:?}", prometheus.query(fail_overs));
    let pending = "count(ALERTS{alertname=\"PccUplinkDown\", uplink=\"wan2\"})";
    assert!(eventually(SOON, || prometheus.value(pending) == Some(2.0)), "the alert waits for its time");
    assert_eq!(prometheus.value("sum(pcc_uplink_taking{uplink=\"wan2\"})"), Some(0.0));
    let seen = pcc.lines();
    lab.carrier(2, true);
    wait_until_up(&pcc, seen, &[2]);
    let up = "sum(pcc_uplink_state{uplink=\"wan2\", pcc_uplink_state=\"up\"})";
    assert!(eventually(SOON, || prometheus.value(up) == Some(2.0)));
    drop(busy);

    // Another configuration, the same controller: it counts on.
    assert!(lab.pcc_output(&["reload"]).status.success());
    let read = scrape(&lab, METRICS.parse().unwrap());
    assert_eq!(read.sum("pcc_uplink_fail_overs", &[("uplink", "wan2")]), 2.0);
    let packets = read.sum("pcc_uplink_packets", &[("direction", "out")]);
    let bytes = read.sum("pcc_uplink_bytes", &[("direction", "out")]);
    assert!(packets > 100.0 && bytes > 40.0 * packets, "{packets} packets, {bytes} bytes");
}

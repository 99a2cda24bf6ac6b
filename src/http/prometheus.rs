//! The recorder of what happens in this process, and the text that Prometheus reads.
//!
//! The node records by the facade `metrics`, whoever listens. A program that embeds a node installs the recorder it
//! likes before it opens the node; `tidelock run` installs this one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::held::held;
use super::metrics;
use super::state::Shared;

/// The edges of what is measured in seconds.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The edges of what is counted.
const COUNTS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];

/// What was recorded since the start of the process.
#[derive(Clone)]
pub struct Prometheus(PrometheusHandle);

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prometheus")
    }
}

impl Prometheus {
    /// Records what nodes that are opened from now on do. Only the first recorder of a process is told anything; one
    /// that comes later records nothing.
    pub fn install() -> Self {
        let buckets = |builder: PrometheusBuilder, matcher, edges: &[f64]| {
            builder.set_buckets_for_metric(matcher, edges).expect("there are edges")
        };
        let builder = PrometheusBuilder::new();
        let builder = buckets(builder, Matcher::Suffix("_seconds".to_owned()), &SECONDS);
        let builder = buckets(builder, Matcher::Suffix("_inputs".to_owned()), &COUNTS);
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || metrics::describe(true));
        if ::metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed, so /metrics tells less");
        }
        Self(handle)
    }

    /// Puts what was recorded into buckets, so that it takes no more room. It is done now and then, whoever reads.
    pub(super) fn settle(&self) {
        self.0.run_upkeep();
    }
}

pub(super) async fn answer(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.served().map(|served| {
        let recorded = shared.prometheus.as_ref().map(|prometheus| prometheus.0.render()).unwrap_or_default();
        recorded + &metrics::gather(&shared, served)
    });
    let answer = text.and_then(|text| held(&shared, "text/plain; version=0.0.4; charset=utf-8", text));
    answer.unwrap_or_else(IntoResponse::into_response)
}

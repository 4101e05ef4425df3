//! A batch of what was kept of a series: as its agent sent it, but for what is not kept. Of the target that is address, port and
//! transport; of a failure, the time until it was known: its point counts zeros.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::build::{exponential, exponential_point, outcome_attributes, request, text};
use super::{PROBE_DURATION, attribute};
use crate::series::Series;
use crate::window::Window;

/// A request for one series, its windows in their order.
pub fn of(series: &Series, windows: &[Window]) -> ExportMetricsServiceRequest {
    let points = windows.iter().flat_map(|Window { begin, end, outcomes }| {
        outcomes.iter().map(|(outcome, histogram)| {
            let mut attributes = vec![
                text(attribute::TARGET, series.target.as_str()),
                text(attribute::REGION, series.region.as_str()),
                text(attribute::SERVICE, series.service.as_str()),
                text(attribute::PROBE, series.probe.as_str()),
                text(attribute::FAMILY, series.family.as_str()),
            ];
            attributes.extend(outcome_attributes(series, *outcome));
            let mut point = exponential_point(*begin, *end, histogram, attributes);
            point.sum = Some(histogram.sum());
            point
        })
    });
    let resource = vec![
        text(attribute::SERVICE_NAME, "isochrone-agent"),
        text(attribute::INSTANCE, series.agent.as_str()),
        text(attribute::SOURCE, series.source.as_str()),
    ];
    request(resource, vec![exponential(PROBE_DURATION, points.collect())])
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use prost::Message as _;

    use super::*;
    use crate::histogram::{Histogram, SCALE, Scratch};
    use crate::otlp::labels;
    use crate::otlp::walk::{BadPoint, Point, Value, Visitor, walk};
    use crate::time::Wall;
    use crate::window::{FailureKind, Outcome};
    use crate::{Label, Standing};

    #[derive(Default)]
    struct Read(Vec<(Series, Outcome, Wall, Wall, Histogram)>, Option<labels::Resource>);

    impl<'a> Visitor<'a> for Read {
        fn resource(&mut self, attributes: &'a [u8]) {
            self.1 = Some(labels::resource(attributes).unwrap());
        }

        fn point(&mut self, point: Point<'a>) {
            let sender = self.1.clone().unwrap();
            let (series, outcome) = labels::series(&point.attributes, &sender.agent, &sender.source).unwrap();
            let Value::Histogram(histogram) = point.value else { panic!("{point:?}") };
            self.0.push((series, outcome, point.begin, point.end, histogram));
        }

        fn bad_point(&mut self, metric: &'a str, _: Cow<'a, [u8]>, fault: BadPoint) {
            panic!("{metric}: {fault}");
        }

        fn other(&mut self, metric: &'a str) {
            panic!("{metric}");
        }
    }

    #[test]
    fn what_was_kept_reads_back_as_the_series_it_was() {
        let labels = [(Label::Cache, "hit".parse().unwrap())].into();
        let series = Series { standing: Standing::Suspect, labels, ..crate::sample::series() };
        let replies = Scratch::default().fold([3, 5, 90].map(Duration::from_millis));
        let lost = Histogram::from_buckets(SCALE, 2, []);
        let (begin, end) = (Wall::from_secs(1_800_000_000), Wall::from_secs(1_800_000_010));
        let outcomes = [(Outcome::Reply, replies), (Outcome::Failure(FailureKind::Refused), lost)];
        let window = Window { begin, end, outcomes: outcomes.clone().into() };
        let mut read = Read::default();
        walk(&of(&series, &[window]).encode_to_vec(), &mut read).unwrap();
        let expected = outcomes.map(|(outcome, histogram)| (series.clone(), outcome, begin, end, histogram));
        assert_eq!(read.0, expected);
    }
}

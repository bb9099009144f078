//! The report as one HTML file: no script, no font, no network.

use std::fmt::Write as _;

use super::{Report, page};
use crate::base::{Millis, Timestamp, text::human};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top;border-bottom:1px solid #e3e7ed}\
th{font-weight:600;white-space:nowrap}td.t{font-variant-numeric:tabular-nums;white-space:nowrap}\
svg{width:100%;height:auto}rect{fill:#3565a8}text{font:12px system-ui,sans-serif;fill:#1c2430}";

pub(super) fn page(report: &Report) -> String {
    let to = report.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
    let title = format!(
        "{}: {} {} {}{to}",
        report.run,
        page::headline(report.outcome.as_ref()),
        page::purpose(report),
        report.from
    );
    let mut html = String::with_capacity(8192);
    put(&mut html, format_args!("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"));
    put(&mut html, format_args!("<title>{0}</title><style>{STYLE}</style></head><body><h1>{0}</h1>", safe(&title)));
    summary(&mut html, report);
    chart(&mut html, report);
    timeline(&mut html, report);
    put(&mut html, format_args!("</body></html>"));
    html
}

fn put(html: &mut String, args: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(html, "{args}");
}

fn summary(html: &mut String, report: &Report) {
    put(html, format_args!("<table>"));
    let mut row = |name: &str, value: &str| {
        put(html, format_args!("<tr><th>{name}</th><td>{}</td></tr>", safe(value)));
    };
    row("writes", &report.gap());
    row("lost", &report.loss());
    for dropped in &report.dropped {
        row("dropped, not in the log", &format!("{} ({})", dropped.what, dropped.detail));
    }
    if let Some(total) = report.rto.total {
        row("took", &format!("{}, of which people {}", human(total), human(report.rto.people)));
    }
    row("asked by", &format!("{}: {}", report.by, report.because));
    row("plan", &report.plan.hex());
    row("began", &report.started.to_string());
    if let Some(ended) = report.ended {
        row("ended", &ended.to_string());
    }
    for left in &report.follow_ups {
        row("follow-up", &left.to_string());
    }
    if let Some(place) = &report.evidence {
        row("evidence", &place.display().to_string());
    }
    put(html, format_args!("</table>"));
}

/// One bar per phase, on the time of the whole run.
fn chart(html: &mut String, report: &Report) {
    let until = report.rto.phases.iter().map(|phase| phase.until).max().unwrap_or(report.started);
    let whole = until.since(report.started);
    if report.rto.phases.is_empty() || whole == Millis::ZERO {
        return;
    }
    let height = 24 * report.rto.phases.len();
    put(html, format_args!("<h2>Phases</h2><svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"phases\">"));
    let place = |at: Timestamp| 100 + at.since(report.started).count().saturating_mul(580) / whole.count();
    for (index, phase) in report.rto.phases.iter().enumerate() {
        let (from, to) = (place(phase.from), place(phase.until));
        let (top, wide) = (24 * index, to.saturating_sub(from).max(1));
        put(
            html,
            format_args!(
                "<text x=\"0\" y=\"{}\">{}</text><rect x=\"{from}\" y=\"{}\" width=\"{wide}\" height=\"14\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                top + 16,
                phase.phase,
                top + 5,
                from + wide + 6,
                top + 16,
                human(phase.took)
            ),
        );
    }
    put(html, format_args!("</svg>"));
}

fn timeline(html: &mut String, report: &Report) {
    put(html, format_args!("<h2>Timeline</h2><table>"));
    for moment in &report.timeline {
        let node = moment.node.as_ref().map(ToString::to_string).unwrap_or_default();
        put(
            html,
            format_args!(
                "<tr><td class=\"t\">{}</td><td>{}</td><td>{}</td></tr>",
                moment.at,
                safe(&node),
                safe(&moment.text)
            ),
        );
    }
    put(html, format_args!("</table>"));
}

/// The text with what HTML would read as markup written out.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

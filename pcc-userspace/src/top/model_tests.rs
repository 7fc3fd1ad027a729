use super::*;
use crate::events::Event;
use crate::top::sample;

fn told(model: &mut Model, at: u64, what: What) {
    model.absorb(Record { at, what });
}

/// The last snapshot of the sample, changed.
fn snapshot(change: impl FnOnce(&mut Status)) -> What {
    let last = sample::records().into_iter().rev().find_map(|record| match record.what {
        What::Status(status) => Some(status),
        _ => None,
    });
    let mut status = last.unwrap();
    change(&mut status);
    What::Status(status)
}

#[test]
fn rates_are_of_the_last_two_snapshots() {
    let mut model = Model::default();
    told(&mut model, 1000, snapshot(|_| {}));
    assert_eq!(model.total().into, None);
    told(
        &mut model,
        3000,
        snapshot(|status| {
            status.uplinks[0].bytes_in += 1000;
            status.uplinks[0].bytes_out += 500;
            status.uplinks[0].connections_begun += 30;
            status.uplinks[1].connections_begun += 10;
            status.uplinks[0].packets_in += 100;
            status.uplinks[0].shortcuts_tc += 80;
        }),
    );
    let total = model.total();
    assert_eq!((total.into, total.out, total.begun, total.short), (Some(500.0), Some(250.0), Some(20.0), Some(0.8)));
    assert_eq!(model.seen(&model.uplinks[0]), Some(0.75));
    assert_eq!(model.seen(&model.uplinks[1]), Some(0.25));
    assert_eq!(model.uplinks[0].short(), Some(0.8));
    assert_eq!(model.uplinks[1].short(), None);
}

#[test]
fn a_restart_gives_no_false_rates() {
    let mut model = Model::default();
    told(&mut model, 1000, snapshot(|_| {}));
    told(&mut model, 2000, What::Silent("gone".into()));
    assert_eq!(model.link, Link::Silent { since: 2000, reason: "gone".into() });
    told(&mut model, 3000, What::Silent("still gone".into()));
    assert_eq!(model.link, Link::Silent { since: 2000, reason: "gone".into() });
    let anew = |extra| {
        snapshot(move |status| {
            status.pid += 1;
            for uplink in &mut status.uplinks {
                uplink.bytes_in = extra;
                uplink.connections_begun = extra;
            }
        })
    };
    told(&mut model, 4000, anew(0));
    assert_eq!(model.link, Link::Live);
    assert_eq!(model.total().into, None);
    assert_eq!(model.seen(&model.uplinks[0]), None);
    told(&mut model, 5000, anew(7));
    assert_eq!(model.total().into, Some(21.0));
    let texts: Vec<&str> = model.events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["gone", "a new controller answers"]);
    // Without having been silent: a restart between two snapshots.
    told(&mut model, 6000, anew(1));
    assert_eq!(model.total().into, None);
}

#[test]
fn uplinks_keep_their_history_by_name() {
    let mut model = Model::default();
    told(&mut model, 1000, snapshot(|_| {}));
    told(
        &mut model,
        2000,
        snapshot(|status| {
            status.uplinks.reverse();
            status.uplinks.remove(1);
        }),
    );
    let names: Vec<&str> = model.uplinks.iter().map(|uplink| uplink.status.name.as_str()).collect();
    assert_eq!(names, ["lte", "fibre"]);
    assert_eq!(model.uplinks[1].traffic.into.now(), Some(0.0));
    assert_eq!(model.uplinks[1].rtt.tail(2).iter().flatten().count(), 2);
}

#[test]
fn interfaces_of_a_script_have_rates() {
    let mut model = Model::default();
    model.absorb(sample::mirror(1000, 100));
    model.absorb(sample::mirror(2000, 200));
    assert_eq!(model.interfaces[1].traffic.into.now(), Some(2000.0));
    assert_eq!(model.total().connections, 124);
    assert!(model.uplinks.is_empty());
    told(&mut model, 3000, snapshot(|_| {}));
    assert!(model.interfaces.is_empty());
    assert_eq!(model.uplinks.len(), 3);
}

#[test]
fn events_tell_when_and_how() {
    let mut model = Model::default();
    let event =
        |kind| What::Event(Box::new(Event { time: "2026-01-01T10:20:30.5Z".into(), instance: "x".into(), kind }));
    told(&mut model, 1, event(Kind::Taking { family: "IPv4".into(), uplinks: Vec::new() }));
    assert_eq!(
        model.events[0],
        Happened { time: "10:20:30".into(), text: "IPv4: no uplink, main decides".into(), mood: Mood::Bad }
    );
    for _ in 0..2 * EVENTS {
        told(&mut model, 1, event(Kind::Reloaded));
    }
    assert_eq!(model.events.len(), EVENTS);
}

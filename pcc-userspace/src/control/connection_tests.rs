use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::*;
use crate::config::Paths;

/// A connection of user `uid` to a controller that does everything.
fn connect(uid: u32) -> (UnixStream, Teller) {
    let (sender, mut asked) = mpsc::channel::<Asked>(1);
    let teller = Teller::new("x");
    let flows = Arc::new(flows::Server::new(Paths::of("x")));
    let service = Service { desk: Desk::open(sender.clone()), asked: sender, flows, teller: teller.clone() };
    tokio::spawn(async move {
        while let Some((_, reply)) = asked.recv().await {
            let _ = reply.send(Answer::Done { warnings: Vec::new() });
        }
    });
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(serve(theirs, uid, service));
    (ours, teller)
}

/// What comes until the end.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

async fn ask(uid: u32, text: &str) -> String {
    let (mut stream, _) = connect(uid);
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(stream).await
}

const DONE: &str = "{\"answer\":\"done\",\"warnings\":[]}\n";
const STATUS: &str = "{\"request\":\"status\"}";
const CONFIRM: &str = "{\"request\":\"confirm\"}";

#[tokio::test]
async fn each_request_is_answered_whatever_ends_the_last() {
    assert_eq!(ask(7, &format!("{STATUS}\n{STATUS}\n{STATUS}")).await, DONE.repeat(3));
    assert_eq!(ask(0, &format!("{CONFIRM}\n")).await, DONE);
    assert_eq!(ask(7, "").await, "");
}

#[tokio::test]
async fn the_limit_is_one_of_each_request_not_of_a_connection() {
    let filled = format!("{STATUS}{}", " ".repeat(LONGEST_REQUEST - STATUS.len()));
    assert_eq!(ask(7, &format!("{filled}\n").repeat(10)).await, DONE.repeat(10));
    let refused = ask(7, &format!("{STATUS}\n{filled} \n{STATUS}\n")).await;
    assert!(refused.starts_with(DONE) && refused.contains("4096 bytes at most"), "{refused}");
    assert_eq!(refused.lines().count(), 2, "nothing is read behind it: {refused}");
}

#[tokio::test]
async fn what_is_no_request_is_said_and_the_next_one_is_heard() {
    for bad in ["", "{", "{}", "[[[[", "\u{0}", "{\"request\":\"stop\"}", &"[".repeat(4000)] {
        let answer = ask(7, &format!("{bad}\n{STATUS}\n")).await;
        assert!(answer.contains("not a request") && answer.ends_with(DONE), "`{bad}`: {answer}");
    }
    let answer = ask(7, &format!("{CONFIRM}\n{STATUS}\n")).await;
    assert!(answer.contains("only root") && answer.ends_with(DONE), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_dropped() {
    let (stream, _) = connect(7);
    let (read, mut write) = stream.into_split();
    let slow = tokio::spawn(async move {
        for byte in STATUS.bytes() {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let refused = rest(read).await;
    assert!(refused.contains("within 10 s"), "{refused}");
    slow.abort();
}

#[tokio::test(start_paused = true)]
async fn one_who_takes_no_answers_is_dropped() {
    let (stream, _) = connect(7);
    let (read, mut write) = stream.into_split();
    // Until it listens no more: there is no room for answers that nobody takes.
    let asking = async { while write.write_all(format!("{CONFIRM}\n").as_bytes()).await.is_ok() {} };
    timeout(10 * ANSWER, asking).await.expect("it still listens");
    drop(read);
}

#[tokio::test]
async fn events_go_on_until_the_last() {
    let (mut stream, teller) = connect(7);
    stream.write_all(b"{\"request\":\"events\"}\n").await.unwrap();
    // The listener has to be there first.
    while teller.listeners() == 0 {
        tokio::task::yield_now().await;
    }
    teller.tell(Kind::Reloaded);
    teller.tell(Kind::Stopped);
    teller.tell(Kind::Reloaded);
    let text = rest(stream).await;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.ends_with("\"event\":\"stopped\"}\n"), "{text}");
}

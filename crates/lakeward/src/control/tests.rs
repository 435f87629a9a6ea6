//! The socket's mode, its answers, and who may replace it.
use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Served {
    control: Arc<Control>,
    task: tokio::task::JoinHandle<()>,
    orders: mpsc::Receiver<Command>,
}

async fn served(state_dir: &Path) -> Served {
    let control = Arc::new(Control::bind(state_dir, false).await.unwrap());
    let (commands, orders) = mpsc::channel(4);
    let task = {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            control.serve(commands, Arc::new(Statuses::of(["ice".into()]))).await
        })
    };
    Served { control, task, orders }
}

impl Served {
    async fn end(self) {
        self.task.abort();
        _ = self.task.await;
        drop(self.control);
    }
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path()).await;
    let mode = std::fs::metadata(path(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["control.sock"]);
    served.end().await;
    assert!(!path(dir.path()).exists());
}

#[tokio::test]
async fn requests_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = served(dir.path()).await;
    let status = call(dir.path(), &Request::Status).await.unwrap().unwrap();
    assert_eq!((&status[0]["sink"], &status[0]["phase"]), (&json!("ice"), &json!("starting")));
    assert_eq!(call(dir.path(), &Request::Tables).await.unwrap().unwrap(), json!([]));
    assert_eq!(call(dir.path(), &Request::Drain).await.unwrap().unwrap(), json!("draining"));
    assert!(matches!(served.orders.recv().await, Some(Command::Drain)));
    served.end().await;
}

#[tokio::test]
async fn orders_bring_back_what_the_pipeline_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = served(dir.path()).await;
    let state_dir = dir.path().to_owned();
    let asked = tokio::spawn(async move {
        let known = call(&state_dir, &Request::Resync { table: "public.t".into() }).await;
        let unknown = call(&state_dir, &Request::Compact { table: Some("public.x".into()) }).await;
        (known, unknown)
    });
    let Some(Command::Resync { table, reply }) = served.orders.recv().await else { panic!() };
    assert_eq!(table, TableId::new("public", "t"));
    reply.send(Ok("accepted".into())).unwrap();
    let Some(Command::Compact { reply, .. }) = served.orders.recv().await else { panic!() };
    let refusal = Error::new(ErrorKind::Config, "no such table").with("table", "public.x");
    reply.send(Err(refusal.remedied("look at `lakeward tables`"))).unwrap();
    let (known, unknown) = asked.await.unwrap();
    assert_eq!(known.unwrap().unwrap(), json!("accepted"));
    let error = unknown.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.message(), "no such table (table=public.x)");
    assert_eq!(error.remedy(), "look at `lakeward tables`");
    served.end().await;
}

#[tokio::test]
async fn nonsense_is_refused_and_the_socket_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(dir.path()).await;
    let mut stream = UnixStream::connect(path(dir.path())).await.unwrap();
    stream.write_all(b"{\"verb\":\"explode\"}\n").await.unwrap();
    let mut answer = String::new();
    BufReader::new(&mut stream).read_line(&mut answer).await.unwrap();
    assert!(answer.contains("the request cannot be read"), "{answer}");
    assert!(call(dir.path(), &Request::Resync { table: "nodot".into() }).await.is_err());
    assert!(call(dir.path(), &Request::Status).await.unwrap().is_some());
    served.end().await;
}

#[tokio::test]
async fn a_second_process_is_fenced_unless_it_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let first = served(dir.path()).await;
    let refused = Control::bind(dir.path(), false).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    let second = Control::bind(dir.path(), true).await.unwrap();
    first.end().await;
    assert!(path(dir.path()).exists(), "the first must not remove the second's socket");
    drop(second);
    assert!(call(dir.path(), &Request::Status).await.unwrap().is_none());
}

#[tokio::test]
async fn a_socket_that_nobody_listens_to_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(path(dir.path())).unwrap());
    assert!(path(dir.path()).exists());
    assert!(Control::bind(dir.path(), false).await.is_ok());
}

#[tokio::test]
async fn a_path_that_is_too_long_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let error = Control::bind(&long, false).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.remedy().contains("shorter"), "{}", error.remedy());
}

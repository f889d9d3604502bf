//! Streams over loopback, with and without the layer.
//!
//! One thread serves and another reads. [`ready`] is the worst case, a server that only sends; [`engine`] is a realistic server.

pub mod engine;
pub mod ready;

use std::{
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, oneshot},
};

use crate::sample;

/// Chunks with a token per stream.
const CHUNKS: usize = 200;
/// Connections at once.
const CONNECTIONS: usize = 8;

/// The results for one server, in seconds.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Rounds {
    /// From the first question to the end of the last answer.
    pub wall: Vec<f64>,
    /// Processor time of the serving thread in that time, including the kernel's.
    pub processor: Vec<f64>,
}

impl Rounds {
    /// How busy the serving thread was: its processor time as a share of wall time.
    pub fn busy(&self) -> impl Iterator<Item = f64> {
        self.wall.iter().zip(&self.processor).map(|(wall, processor)| processor / wall)
    }
}

/// Measures two servers in turn; the order alternates between rounds.
fn rounds(servers: &[Server; 2], streams: usize, count: usize) -> io::Result<[Rounds; 2]> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut both = [Rounds::default(), Rounds::default()];
    for round in 0..=count {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (wall, processor) = runtime.block_on(round_of(&servers[which], streams))?;
            if round > 0 {
                both[which].wall.push(wall.as_secs_f64());
                both[which].processor.push(processor.as_secs_f64());
            }
        }
    }
    Ok(both)
}

/// A server on a separate thread that runs until the process ends.
struct Server {
    address: SocketAddr,
    /// Requests the processor time that its thread has used.
    clock: mpsc::UnboundedSender<oneshot::Sender<Duration>>,
}

impl Server {
    /// A thread whose runtime runs `serve` with a listener.
    fn start<S>(serve: impl FnOnce(TcpListener) -> S + Send + 'static) -> io::Result<Self>
    where
        S: Future<Output = io::Result<()>>,
    {
        let (clock, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<Duration>>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("server".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(async move {
                    while let Some(reply) = asked.recv().await {
                        let _ = reply.send(ThreadTime::now().as_duration());
                    }
                });
                serve(TcpListener::from_std(listener)?).await
            })
        })?;
        Ok(Self { address, clock })
    }

    async fn processor_time(&self) -> io::Result<Duration> {
        let (reply, time) = oneshot::channel();
        self.clock.send(reply).map_err(io::Error::other)?;
        time.await.map_err(io::Error::other)
    }
}

/// Reads `streams` streams per connection, and returns the wall time and the server's processor time.
async fn round_of(server: &Server, streams: usize) -> io::Result<(Duration, Duration)> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = TcpStream::connect(server.address).await?;
        connection.set_nodelay(true)?;
        connections.push(connection);
    }
    let (before, start) = (server.processor_time().await?, Instant::now());
    let asking: Vec<_> = connections.into_iter().map(|connection| tokio::spawn(read(connection, streams))).collect();
    for connection in asking {
        connection.await??;
    }
    let wall = start.elapsed();
    Ok((wall, server.processor_time().await? - before))
}

async fn read(mut connection: TcpStream, streams: usize) -> io::Result<()> {
    let question = sample::question(true);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        question.len()
    );
    let request = [head.as_bytes(), &question].concat();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..streams {
        connection.write_all(&request).await?;
        let mut end = [0; 5];
        while end != *b"0\r\n\r\n" {
            let read = connection.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let kept = read.min(end.len());
            end.rotate_left(kept);
            let from = end.len() - kept;
            end[from..].copy_from_slice(&buffer[read - kept..read]);
        }
    }
    Ok(())
}

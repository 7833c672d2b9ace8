//! A server in the place of the pod's application: incoming PORT. One request for each connection.
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn answer(stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let asked: Vec<&str> = first.split(' ').collect();
    let (client, own) = (stream.peer_addr()?.ip().to_canonical(), stream.local_addr()?.port());
    let line = format!("rust {} {} from {client} at {own}\n", asked[0], asked.get(1).unwrap_or(&""));
    print!("{line}");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", line.len());
    (&mut &*stream).write_all((head + &line).as_bytes())
}

fn main() {
    let port = std::env::args().nth(1).expect("a port").parse().expect("a number");
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("a listener");
    for stream in listener.incoming() {
        if let Err(error) = answer(&stream.expect("a connection")) {
            eprintln!("{error}");
        }
    }
}

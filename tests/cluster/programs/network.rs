//! The network probe (see network.c) in Rust, whose library has no TLS.
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixStream;

const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

fn answer(mut stream: impl Read + Write) -> Result<String> {
    let mut text = String::new();
    stream.write_all(QUESTION)?;
    stream.read_to_string(&mut text)?;
    Ok(text.lines().last().unwrap_or("").to_string())
}

fn tcp(addresses: &[SocketAddr]) -> Result<String> {
    let stream = TcpStream::connect(addresses)?;
    let (own, peer) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
    Ok(format!("{} from {own} to {peer}", answer(stream)?))
}

fn udp(address: SocketAddr) -> Result<String> {
    let socket = UdpSocket::bind((if address.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    let mut text = [0; 512];
    socket.send_to(QUESTION, address)?;
    let (size, _) = socket.recv_from(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..size]).to_string())
}

fn unix(path: &str) -> Result<String> {
    answer(UnixStream::connect(path)?)
}

fn named(kind: &str, host: &str, port: &str) -> Vec<Result<String>> {
    let addresses: Vec<SocketAddr> = match (host, port.parse().unwrap()).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(_) => return vec![Ok("unknown".to_string())],
    };
    match kind {
        "tcp" => vec![tcp(&addresses)],
        "udp" => vec![udp(addresses[0])],
        _ => addresses.iter().map(|address| tcp(&[*address])).collect(),
    }
}

fn main() {
    for word in std::env::args().skip(1) {
        let parts: Vec<&str> = word.split(',').collect();
        let said = match parts[..] {
            [_, path] => vec![unix(path)],
            _ => named(parts[0], parts[1], parts[2]),
        };
        for line in said {
            let line = line.unwrap_or_else(|error| match error.kind() {
                ErrorKind::ConnectionRefused => "refused".to_string(),
                _ => error.to_string(),
            });
            println!("{} {}: {line}", parts[0], parts[1]);
        }
    }
}

// A server that says who it is, whom it saw and where: incoming_server NAME PORT... HTTP/1.1, h2c and WebSocket.
//
// A PORT may be PORT:FOLDER: HTTPS, with tls.crt and tls.key of that folder.
//
// Each connection and each request is a line of its output. An answer has nothing that differs from day to day.
package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

type key struct{}

// A connection that keeps what was read from it.
type kept struct {
	net.Conn
	lock sync.Mutex
	read []byte
}

func (of *kept) Read(into []byte) (int, error) {
	size, err := of.Conn.Read(into)
	of.lock.Lock()
	defer of.lock.Unlock()
	if len(of.read) < 1<<16 {
		of.read = append(of.read, into[:size]...)
	}
	return size, err
}

type keeping struct{ net.Listener }

func (of keeping) Accept() (net.Conn, error) {
	conn, err := of.Listener.Accept()
	return &kept{Conn: conn}, err
}

func host(address string) string {
	name, _, _ := net.SplitHostPort(address)
	return name
}

func words(asked *http.Request) string {
	at := asked.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return fmt.Sprintf("%s %s %s from %s at %s", os.Args[1], asked.Method, asked.URL, host(asked.RemoteAddr), at)
}

func answer(to http.ResponseWriter, asked *http.Request) {
	fmt.Println(words(asked))
	to.Header()["Date"] = nil
	to.Header().Set("Server", os.Args[1])
	switch {
	case strings.HasPrefix(asked.Header.Get("Content-Type"), "application/grpc"):
		call(to, asked)
	case asked.URL.Path == "/ws":
		webSocket(to, asked)
	case asked.URL.Path == "/chunked":
		for number := range 3 {
			fmt.Fprintf(to, "%s %d\n", os.Args[1], number)
			to.(http.Flusher).Flush()
		}
	case asked.URL.Path == "/bytes":
		of := asked.Context().Value(key{}).(*kept)
		io.Copy(io.Discard, asked.Body)
		of.lock.Lock()
		defer of.lock.Unlock()
		to.Write(of.read)
	default:
		body, _ := io.ReadAll(asked.Body)
		fmt.Fprintf(to, "%s\n%s", words(asked), strings.ToUpper(string(body)))
	}
}

// What gRPC puts on HTTP/2: messages of five bytes' head, answered one by one, and a status in the trailers.
func call(to http.ResponseWriter, asked *http.Request) {
	to.Header().Set("Content-Type", "application/grpc")
	to.Header().Set("Trailer", "Grpc-Status")
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(asked.Body, head); err != nil {
			break
		}
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		io.ReadFull(asked.Body, message)
		said := append([]byte(os.Args[1]+" "), message...)
		to.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(said))), said...))
		to.(http.Flusher).Flush()
	}
	to.Header().Set("Grpc-Status", "0")
}

// Frames of less than 126 bytes, each sent back with our name before it.
func webSocket(to http.ResponseWriter, asked *http.Request) {
	conn, buffered, err := to.(http.Hijacker).Hijack()
	if err != nil {
		log.Print(err)
		return
	}
	defer closed(conn)
	sum := sha1.Sum([]byte(asked.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	buffered.Flush()
	for echoed(buffered) {
	}
}

// For the server a connection that was given away has no end.
func closed(conn net.Conn) {
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	fmt.Println(os.Args[1], port, http.StateClosed, host(conn.RemoteAddr().String()))
	conn.Close()
}

func echoed(both *bufio.ReadWriter) bool {
	head := make([]byte, 6)
	if _, err := io.ReadFull(both, head); err != nil || head[0]&0xf == 8 {
		return false
	}
	data := make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(both, data); err != nil {
		return false
	}
	for at := range data {
		data[at] ^= head[2+at%4]
	}
	said := append([]byte(os.Args[1]+" "), data...)
	both.Write(append([]byte{head[0], byte(len(said))}, said...))
	return both.Flush() == nil
}

func serve(port string) error {
	port, folder, secured := strings.Cut(port, ":")
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	server := http.Server{Handler: http.HandlerFunc(answer), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.ConnContext = func(old context.Context, conn net.Conn) context.Context {
		return context.WithValue(old, key{}, conn)
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew || state == http.StateClosed {
			fmt.Println(os.Args[1], port, state, host(conn.RemoteAddr().String()))
		}
	}
	fmt.Println(os.Args[1], "listens on", listener.Addr())
	if secured {
		server.Protocols.SetHTTP2(true)
		return server.ServeTLS(listener, folder+"/tls.crt", folder+"/tls.key")
	}
	return server.Serve(keeping{listener})
}

func main() {
	ended := make(chan error)
	for _, port := range os.Args[2:] {
		go func() { ended <- serve(port) }()
	}
	log.Fatal(<-ended)
}

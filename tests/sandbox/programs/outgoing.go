// Connects to each address given, prints peer, whether the server saw our name, and what it repeated.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	for _, place := range os.Args[1:] {
		conn, err := net.Dial("tcp", place)
		if err != nil {
			fmt.Println(err.Error()[strings.LastIndex(err.Error(), ":")+2:])
			continue
		}
		reader := bufio.NewReader(conn)
		seen, _ := reader.ReadString('\n')
		host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
		fmt.Fprintln(conn, "ping")
		answer, _ := reader.ReadString('\n')
		fmt.Println(conn.RemoteAddr(), strings.HasPrefix(seen, host+" "), strings.TrimSpace(answer))
		conn.Close()
	}
	conn, _ := net.ListenUDP("udp", nil)
	to, _ := net.ResolveUDPAddr("udp", strings.Replace(os.Args[1], "7001", "7010", 1))
	conn.WriteToUDP([]byte("go"), to)
	buffer := make([]byte, 100)
	size, from, err := conn.ReadFromUDP(buffer)
	fmt.Println(string(buffer[:size]), from, err)
}

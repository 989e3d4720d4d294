// A relay as most people would write it in Go: io.Copy in both directions, which the runtime
// turns into splice. Used by the bench only.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"sync"
)

func pump(to, from *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}

func serve(client *net.TCPConn, back string) {
	defer client.Close()
	dialled, err := net.Dial("tcp", back)
	if err != nil {
		log.Print(err)
		return
	}
	server := dialled.(*net.TCPConn)
	defer server.Close()
	var both sync.WaitGroup
	both.Add(1)
	go func() {
		pump(server, client)
		both.Done()
	}()
	pump(client, server)
	both.Wait()
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(client.(*net.TCPConn), os.Args[2])
	}
}

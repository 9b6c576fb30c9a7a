package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

func TestAnswersOnBothProtocols(t *testing.T) {
	// A port that is free for TCP now; the server opens it for UDP, too.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server{pod: "web-1", node: "node2"}.serve(ctx, address) }()

	if got, want := get(t, address), "pod=web-1 node=node2 client=127.0.0.1:"; len(got) < len(want) ||
		got[:len(want)] != want {
		t.Errorf("HTTP: %q, want %q…", got, want)
	}
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 500)
	n, err := conn.Read(answer)
	want := fmt.Sprintf("pod=web-1 node=node2 client=%s host=%s data=\"hi\"\n", conn.LocalAddr(), address)
	if err != nil || string(answer[:n]) != want {
		t.Errorf("UDP: %q, %v, want %q", answer[:n], err, want)
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

func TestAnswersBehindAProxy(t *testing.T) {
	front := httptest.NewServer(http.HandlerFunc(server{pod: "web-1", node: "node2"}.answer))
	defer front.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", "192.0.2.7, 10.77.0.100")
	response, err := front.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasSuffix(string(body), " forwarded=192.0.2.7,10.77.0.100\n") {
		t.Errorf("%q, %v", body, err)
	}
}

func TestWebsocketEchoes(t *testing.T) {
	front := httptest.NewServer(http.HandlerFunc(server{pod: "web-1", node: "node2"}.answer))
	defer front.Close()
	conn, err := websocket.Dial("ws"+strings.TrimPrefix(front.URL, "http")+"/live", "", front.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var got string
	if err := websocket.Message.Receive(conn, &got); err != nil || !strings.HasPrefix(got, "pod=web-1 ") {
		t.Errorf("first message %q, %v", got, err)
	}
	for _, text := range []string{"one", "two"} {
		if err := websocket.Message.Send(conn, text); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(conn, &got); err != nil || got != text {
			t.Errorf("sent %q, received %q, %v", text, got, err)
		}
	}
}

// get fetches the page, as soon as the server listens.
func get(t *testing.T, address string) string {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); ; {
		response, err := http.Get("http://" + address)
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
			continue
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
}

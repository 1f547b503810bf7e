// Load sends one HTTPS request again and again and prints what it saw as one JSON line.
//
// Without -rate every connection sends its next request as soon as it has its answer.
// With -rate requests fall due at fixed times, whether or not earlier ones were answered,
// and latency counts from the time at which a request was due: a server that stalls cannot
// hide that from those who would have come in the meantime.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type connection struct {
	stream *tls.Conn
	reader *bufio.Reader
}

type result struct {
	Completed int     `json:"completed"`
	Seconds   float64 `json:"seconds"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
}

func main() {
	address := flag.String("address", "", "host:port of the server")
	ca := flag.String("ca", "", "PEM file of the CA to trust")
	path := flag.String("path", "/", "path to POST to")
	file := flag.String("body", "", "file with the body")
	connections := flag.Int("connections", 8, "connections, each with one request at a time")
	duration := flag.Duration("duration", 5*time.Second, "how long to send")
	rate := flag.Int("rate", 0, "requests a second; 0 sends as fast as answers come")
	flag.Parse()
	found, err := run(*address, *ca, *path, *file, *connections, *duration, *rate)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}

func run(address, ca, path, file string, count int, duration time.Duration, rate int) (*result, error) {
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	trusted, err := trust(ca)
	if err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", path, len(body), body)
	open := make([]*connection, count)
	for index := range open {
		stream, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trusted, ServerName: "localhost"})
		if err != nil {
			return nil, err
		}
		defer stream.Close()
		open[index] = &connection{stream, bufio.NewReaderSize(stream, 32*1024)}
		if err := open[index].exchange(request); err != nil {
			return nil, err
		}
	}
	return send(open, request, duration, rate)
}

func trust(ca string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	return pool, nil
}

func send(open []*connection, request []byte, duration time.Duration, rate int) (*result, error) {
	latencies := make([][]time.Duration, len(open))
	failures := make([]error, len(open))
	due := make(chan time.Time, 1+rate*int(duration/time.Second+1))
	var group sync.WaitGroup
	started := time.Now()
	end := started.Add(duration)
	for index := range open {
		group.Go(func() {
			latencies[index], failures[index] = open[index].work(request, due, end, rate > 0)
		})
	}
	if rate > 0 {
		for index := range rate * int(duration) / int(time.Second) {
			at := started.Add(time.Duration(index) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(at))
			due <- at
		}
	}
	close(due)
	group.Wait()
	seconds := time.Since(started).Seconds()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return summary(slices.Concat(latencies...), seconds)
}

func (c *connection) work(request []byte, due <-chan time.Time, end time.Time, paced bool) ([]time.Duration, error) {
	var latencies []time.Duration
	for {
		at := time.Now()
		if paced {
			next, more := <-due
			if !more {
				return latencies, nil
			}
			at = next
		} else if at.After(end) {
			return latencies, nil
		}
		if err := c.exchange(request); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(at))
	}
}

// exchange sends one request and reads its answer; any status but 200 is an error.
func (c *connection) exchange(request []byte) error {
	if _, err := c.stream.Write(request); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("the answer is %q", line)
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		if strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("the answer has no Content-Length")
	}
	_, err := io.CopyN(io.Discard, c.reader, int64(length))
	return err
}

func summary(latencies []time.Duration, seconds float64) (*result, error) {
	if len(latencies) == 0 {
		return nil, fmt.Errorf("no request was answered")
	}
	slices.Sort(latencies)
	at := func(quantile float64) float64 {
		return latencies[int(quantile*float64(len(latencies)-1))].Seconds() * 1000
	}
	return &result{len(latencies), seconds, at(0.5), at(0.99), at(1)}, nil
}

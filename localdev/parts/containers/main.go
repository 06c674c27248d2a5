// Containers runs one container for as long as its standard input is open: containers IMAGE PORT [ARGUMENT...]. When the port
// takes connections it prints HOST:PORT of it, as seen from here, on a line.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "containers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("want IMAGE PORT [ARGUMENT...], got %q", args)
	}
	image, port, command := args[0], args[1], args[2:]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin) // an error is an end, too
		close(ended)
		cancel()
	}()
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithExposedPorts(port),
		testcontainers.WithCmd(command...),
		testcontainers.WithWaitStrategy(wait.ForListeningPort(port).SkipInternalCheck())) // an image need not have a shell
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := testcontainers.TerminateContainer(c, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0)); err != nil {
			fmt.Fprintln(os.Stderr, "containers:", err)
		}
	}()
	if err != nil {
		return err
	}
	host, err := c.PortEndpoint(ctx, port, "")
	if err != nil {
		return err
	}
	fmt.Println(host)
	<-ended
	return nil
}

// The interoperability tests of gRPC itself: grpc serve NAME PORT, or grpc ask ADDRESS [WHO].
//
// The client says, for each kind of call, which server answered it; a call that went wrong ends it.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

func serve(name, port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	named := metadata.Pairs("name", name)
	unary := func(ctx context.Context, asked any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		grpc.SetHeader(ctx, named)
		fmt.Println(name, info.FullMethod)
		return next(ctx, asked)
	}
	stream := func(of any, calls grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		calls.SetHeader(named)
		fmt.Println(name, info.FullMethod)
		return next(of, calls)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream))
	pb.RegisterTestServiceServer(server, interop.NewTestServer())
	fmt.Println(name, "listens on", listener.Addr())
	return server.Serve(listener)
}

type kind struct {
	name string
	call func(context.Context, pb.TestServiceClient, ...grpc.CallOption)
}

var kinds = []kind{
	{"empty unary", interop.DoEmptyUnaryCall},
	{"large unary", interop.DoLargeUnaryCall},
	{"client streaming", interop.DoClientStreaming},
	{"server streaming", interop.DoServerStreaming},
	{"ping-pong", interop.DoPingPong},
	{"empty stream", interop.DoEmptyStream},
	{"time-out", interop.DoTimeoutOnSleepingServer},
	{"cancelled at the beginning", interop.DoCancelAfterBegin},
	{"cancelled after an answer", interop.DoCancelAfterFirstResponse},
	{"metadata", interop.DoCustomMetadata},
	{"status", interop.DoStatusCodeAndMessage},
	{"special status", interop.DoSpecialStatusMessage},
}

// All calls over one connection. who: given with each call, for a filter to see.
func ask(address string, who ...string) {
	with := func(ctx context.Context) context.Context {
		for _, name := range who {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-who", name)
		}
		return ctx
	}
	unary := func(ctx context.Context, method string, in, out any, on *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
		return next(with(ctx), method, in, out, on, options...)
	}
	stream := func(ctx context.Context, of *grpc.StreamDesc, on *grpc.ClientConn, method string, next grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		return next(with(ctx), of, on, method, options...)
	}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	on, err := grpc.NewClient(address, plain, grpc.WithUnaryInterceptor(unary), grpc.WithStreamInterceptor(stream))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, each := range kinds {
		var head metadata.MD
		each.call(ctx, pb.NewTestServiceClient(on), grpc.Header(&head))
		fmt.Println(each.name, head["name"])
	}
	interop.DoUnimplementedMethod(ctx, on)
	fmt.Println("no such method")
}

func main() {
	if os.Args[1] == "serve" {
		log.Fatal(serve(os.Args[2], os.Args[3]))
	}
	ask(os.Args[2], os.Args[3:]...)
}

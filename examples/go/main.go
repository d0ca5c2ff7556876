// Starts a backup, watches it to its end, and reads the recovery point: over mutual TLS, with a generated client.
//
//	examples/go/generate.sh
//	muster context export tls
//	cd examples/go && go run . -endpoint 127.0.0.1:7400 -tls ../../tls orders-db
//
// The request id makes the call safe to repeat: sent twice, it is the same backup. The exit code is 0 only where the backup succeeded and
// the controller lists its point; it is 2 where the controller refused, with the reason and the hint.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	musterv1 "muster.example/client/gen/muster/v1"
)

// patience is how long a controller that cannot be reached is waited for.
const patience = 2 * time.Minute

// refused tells a refusal from everything else that can go wrong.
type refused struct{ fault *musterv1.Fault }

func (r refused) Error() string {
	return fmt.Sprintf("%s. HINT: %s", r.fault.GetMessage(), r.fault.GetHint())
}

// connect makes a channel on which both sides prove who they are, from the folder that `muster context export` wrote.
func connect(endpoint, folder string) (*grpc.ClientConn, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("ca.pem has no certificate")
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13}
	return grpc.NewClient(endpoint, grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

// told finds the fault in an answer's details: why, and what to do next.
func told(err error) error {
	for _, detail := range status.Convert(err).Details() {
		if fault, ok := detail.(*musterv1.Fault); ok {
			return refused{fault}
		}
	}
	return err
}

// patiently repeats a call that is safe to repeat while the controller cannot be reached.
func patiently[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	until := time.Now().Add(patience)
	for {
		answer, err := call(ctx)
		if status.Code(err) != codes.Unavailable || time.Now().After(until) {
			if err != nil {
				err = told(err)
			}
			return answer, err
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func ended(state musterv1.OperationState) bool {
	switch state {
	case musterv1.OperationState_OPERATION_STATE_SUCCEEDED, musterv1.OperationState_OPERATION_STATE_FAILED,
		musterv1.OperationState_OPERATION_STATE_CANCELLED:
		return true
	default:
		return false
	}
}

// follow reads one watch until it ends or breaks, and gives the operation as it was seen last.
func follow(ctx context.Context, client musterv1.OperationServiceClient, last *musterv1.Operation) (*musterv1.Operation, error) {
	request := &musterv1.OperationServiceWatchRequest{Id: last.GetId(), AfterEvent: last.GetLastEvent()}
	updates, err := client.Watch(ctx, request)
	if err != nil {
		return last, err
	}
	for {
		update, err := updates.Recv()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		if event := update.GetEvent(); event != nil {
			last = event.GetOperation()
			fmt.Printf("%d: %s\n", event.GetNumber(), event.GetText())
		} else if progress := update.GetProgress().GetProgress(); progress != nil {
			fmt.Printf("   %s: %d of %d bytes\n", progress.GetPhase(), progress.GetBytesDone(), progress.GetBytesTotal())
		}
	}
}

// watch follows an operation to its end, also through restarts of the controller: from the last transition that was seen.
func watch(ctx context.Context, client musterv1.OperationServiceClient, operation *musterv1.Operation) (*musterv1.Operation, error) {
	for !ended(operation.GetState()) {
		seen, err := follow(ctx, client, operation)
		operation = seen
		if err != nil && status.Code(err) != codes.Unavailable {
			return operation, told(err)
		}
		// A wait costs the controller nothing and answers at once where the operation has ended.
		answer, err := patiently(ctx, func(ctx context.Context) (*musterv1.WaitResponse, error) {
			return client.Wait(ctx, &musterv1.WaitRequest{Id: operation.GetId(), Timeout: durationpb.New(time.Second)})
		})
		if err != nil {
			return operation, err
		}
		operation = answer.GetOperation()
	}
	return operation, nil
}

func backup(ctx context.Context, channel *grpc.ClientConn, component string) error {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	request := &musterv1.BackupRequest{Component: component, Label: "from Go", RequestId: hex.EncodeToString(random)}
	recovery := musterv1.NewRecoveryServiceClient(channel)
	ask := func(ctx context.Context) (*musterv1.BackupResponse, error) { return recovery.Backup(ctx, request) }
	accepted, err := patiently(ctx, ask)
	if err != nil {
		return err
	}
	again, err := patiently(ctx, ask)
	if err != nil {
		return err
	}
	if again.GetOperation().GetId() != accepted.GetOperation().GetId() {
		return errors.New("one request id gave two operations")
	}
	operation, err := watch(ctx, musterv1.NewOperationServiceClient(channel), accepted.GetOperation())
	if err != nil {
		return err
	}
	if operation.GetState() != musterv1.OperationState_OPERATION_STATE_SUCCEEDED {
		return refused{operation.GetFault()}
	}
	listed, err := patiently(ctx, func(ctx context.Context) (*musterv1.ListPointsResponse, error) {
		return musterv1.NewRepositoryServiceClient(channel).ListPoints(ctx, &musterv1.ListPointsRequest{Component: component})
	})
	if err != nil {
		return err
	}
	for _, point := range listed.GetPoints() {
		if point.GetId() == operation.GetBackup().GetPointId() {
			fmt.Printf("point %s of %s/%s: restores %d bytes, added %d\n", point.GetId(), point.GetComponent(), point.GetInstance(),
				point.GetBytesTotal(), point.GetBytesStored())
			return nil
		}
	}
	return fmt.Errorf("the controller does not list point %s", operation.GetBackup().GetPointId())
}

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:7400", "the controller")
	folder := flag.String("tls", "tls", "the folder that `muster context export` wrote")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "name one component")
		os.Exit(64)
	}
	channel, err := connect(*endpoint, *folder)
	if err == nil {
		err = backup(context.Background(), channel, flag.Arg(0))
	}
	var refusal refused
	if errors.As(err, &refusal) {
		fmt.Fprintln(os.Stderr, "REFUSED:", err)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

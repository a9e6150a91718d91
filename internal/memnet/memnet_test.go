package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l := Listen()
	done := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		done <- c
	}()
	client, err := l.DialContext(t.Context(), "tcp", "")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = l.DialContext(t.Context(), "tcp", "")
	require.Error(t, err)
	return client, <-done
}

func TestConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		defer a.Close()
		defer b.Close()
		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Minute)))
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout())
		require.Equal(t, time.Minute, time.Since(start))
		require.NoError(t, a.SetDeadline(time.Time{}))
		go func() { _, _ = b.Write([]byte("x")) }()
		_, err = a.Read(make([]byte, 1))
		require.NoError(t, err)

		require.NoError(t, b.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := b.Write(make([]byte, 2*Buffer))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, Buffer, n)
	})
}

func TestConnIsDurablyBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		go func() {
			time.Sleep(time.Hour)
			b.Close()
		}()
		start := time.Now()
		_, err := a.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.Equal(t, time.Hour, time.Since(start))
		_, err = a.Write([]byte("x"))
		require.Error(t, err)
		a.Close()
		_, err = a.Read(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		require.Error(t, a.SetReadDeadline(time.Now()))
	})
}

func TestConnCarriesMoreThanItsBuffer(t *testing.T) {
	a, b := pair(t)
	want := make([]byte, 3*Buffer)
	for i := range want {
		want[i] = byte(i * i >> 3)
	}
	go func() {
		_, _ = a.Write(want)
		a.Close()
	}()
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.True(t, string(want) == string(got))
	b.Close()
}

func TestResetOvertakesNothing(t *testing.T) {
	a, b := pair(t)
	_, err := b.Write([]byte("last words"))
	require.NoError(t, err)
	b.(*Conn).Reset()
	buf := make([]byte, 100)
	n, err := a.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "last words", string(buf[:n]))
	_, err = a.Read(buf)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = a.Write(buf)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = b.Read(buf)
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, a.Close())
}

func TestListenersAreToldApartAndRefuseAfterClose(t *testing.T) {
	a, b := Listen(), Listen()
	require.NotEqual(t, a.Addr().String(), b.Addr().String())
	require.NoError(t, a.Close())
	_, err := a.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.DialContext(t.Context(), "", "")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.DialContext(ctx, "", "")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, b.Close())
}

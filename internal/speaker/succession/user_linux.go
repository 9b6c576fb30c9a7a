package succession

import "golang.org/x/sys/unix"

// peerUser returns the user who has the other end of a unix socket: of a connection that
// was accepted the one who connected, of one that was made the one who listens.
func peerUser(fd int) (int, error) {
	credentials, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}

package membership

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
)

// A TCP connection between members begins with a proof that both ends have a key,
// before memberlist reads or writes anything:
//
//	dialer:   hello  = magic (6 bytes), key id (8), nonce (32)
//	acceptor: answer = nonce (32), MAC of "acceptor"  (32)
//	dialer:   proof  = MAC of "dialer" (32)
//
// memberlist by itself reads up to 20 MiB from a connection before it finds out
// whether the sender has a key. So whoever has none costs at most one hello, and a
// member that dials a stranger reads at most one answer.
//
// The MAC is HMAC-SHA256 over the role, the cluster label and both nonces; roles
// differ so that no message can be sent back to its sender. Its key and the key id
// are derived from the member key, which encrypts all that follows. The dialer
// chooses the key: the acceptor proves that it has that one too.
//
// The sixth byte of the magic is the version of the handshake. A hello has the
// same size in all versions.
const (
	magic      = "berth\x01"
	keyIDSize  = 8
	nonceSize  = 32
	macSize    = sha256.Size
	helloSize  = len(magic) + keyIDSize + nonceSize
	answerSize = nonceSize + macSize
)

// errUnauthenticated is the error of somebody who does not prove to have a key.
var errUnauthenticated = errors.New("no proof of a member key")

// keyID names a key without revealing it.
type keyID [keyIDSize]byte

// proofKey is what a member key is in the handshake.
type proofKey struct {
	id  keyID
	mac []byte
}

func newProofKey(key []byte) (proofKey, error) {
	id, idErr := hkdf.Key(sha256.New, key, nil, "berth member key id", keyIDSize)
	mac, macErr := hkdf.Key(sha256.New, key, nil, "berth member handshake", macSize)
	if err := errors.Join(idErr, macErr); err != nil {
		return proofKey{}, fmt.Errorf("derive from a key: %w", err)
	}
	return proofKey{id: keyID(id), mac: mac}, nil
}

// prove returns the MAC of one role.
func (k proofKey) prove(role, label string, dialer, acceptor []byte) []byte {
	h := hmac.New(sha256.New, k.mac)
	// The label has at most 255 bytes; nonces have one size: no two inputs are alike.
	for _, part := range [][]byte{[]byte(role), {byte(len(label))}, []byte(label), dialer, acceptor} {
		h.Write(part)
	}
	return h.Sum(nil)
}

// greet is the dialer's part of the handshake. Whoever calls it bounds it by a
// deadline of conn.
func greet(conn net.Conn, key proofKey, label string) error {
	nonce := newNonce()
	hello := append(append([]byte(magic), key.id[:]...), nonce...)
	if _, err := conn.Write(hello); err != nil {
		return fmt.Errorf("send a hello: %w", err)
	}
	var answer [answerSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("no answer: it does not know this key, has no room, or is no member: %w", err)
	}
	theirs, mac := answer[:nonceSize], answer[nonceSize:]
	if !hmac.Equal(mac, key.prove("acceptor", label, nonce, theirs)) {
		return errUnauthenticated
	}
	if _, err := conn.Write(key.prove("dialer", label, nonce, theirs)); err != nil {
		return fmt.Errorf("prove the key: %w", err)
	}
	return nil
}

// admit is the acceptor's part. It returns the id of the key that the dialer has;
// find returns the key of an id. It reads no byte beyond the proof.
func admit(conn net.Conn, find func(keyID) (proofKey, bool), label string) (keyID, error) {
	var hello [helloSize]byte
	// The magic first: most of what connects to an open port differs in its first bytes.
	if _, err := io.ReadFull(conn, hello[:len(magic)]); err != nil {
		return keyID{}, fmt.Errorf("read a hello: %w", err)
	}
	if string(hello[:len(magic)]) != magic {
		return keyID{}, errUnauthenticated
	}
	if _, err := io.ReadFull(conn, hello[len(magic):]); err != nil {
		return keyID{}, fmt.Errorf("read a hello: %w", err)
	}
	id := keyID(hello[len(magic) : len(magic)+keyIDSize])
	theirs := hello[len(magic)+keyIDSize:]
	key, ok := find(id)
	if !ok {
		return keyID{}, errUnauthenticated
	}
	nonce := newNonce()
	if _, err := conn.Write(append(nonce, key.prove("acceptor", label, theirs, nonce)...)); err != nil {
		return keyID{}, fmt.Errorf("answer a hello: %w", err)
	}
	var proof [macSize]byte
	if _, err := io.ReadFull(conn, proof[:]); err != nil {
		return keyID{}, fmt.Errorf("read a proof: %w", err)
	}
	if !hmac.Equal(proof[:], key.prove("dialer", label, theirs, nonce[:nonceSize])) {
		return keyID{}, errUnauthenticated
	}
	return id, nil
}

func newNonce() []byte {
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails: crypto/rand
	return nonce
}

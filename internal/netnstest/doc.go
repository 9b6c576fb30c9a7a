// Package netnstest gives ordinary go tests real frames in private network
// namespaces.
//
// A test package that wants them declares
//
//	func TestMain(m *testing.M) { netnstest.Main(m) }
//
// Main runs the whole test binary again as a child that is alone in a new
// network namespace and a new mount namespace (and, where the user is not root,
// in a new user namespace). Every goroutine and every thread of the child is in
// that namespace from its first instruction, so code under test opens its
// sockets as it does in production: there is no locked thread to hand back and
// no hook to pass. Further hosts of a topology are named namespaces that live
// in the child's own mount of /run/netns. When the child ends, however it ends,
// the kernel drops the mounts, the namespaces and everything in them; nothing of
// the machine's own network is ever read or changed.
//
// A package whose tests wait for most of their time says [MainParallel] instead: each
// test function gets a process and namespaces of its own.
//
// Tests and benchmarks call [Require] first, then build a topology:
//
//	lan := netnstest.NewLAN(t)
//	node := lan.Attach(netnstest.Local(), "eth0", "192.0.2.1/24")
//	client := lan.Attach(netnstest.NewHost(t, "client"), "eth0", "192.0.2.9/24")
//	out := client.Run(t, "arping", "-c1", "192.0.2.1")
//
// Where namespaces cannot be made, the tests run once in the original process
// and Require skips those that need them, saying why.
package netnstest

// Package layer2test has what the tests of layer 2 share: hosts with their addresses,
// frames that are made without the code under test, and helpers for private network
// namespaces.
package layer2test

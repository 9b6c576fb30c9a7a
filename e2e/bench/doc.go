// Package bench has what the benchmarks in a lab share: what the environment says, a lab with the product and
// a workload in it, Services, and the waiting until all is well.
package bench

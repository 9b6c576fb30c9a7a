//go:build !race

package allocator

// raceEnabled tells that the race detector makes everything slow.
const raceEnabled = false

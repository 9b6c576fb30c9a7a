// Package watch reports the links of this node as the kernel tells of them by
// netlink: see [Watcher].
package watch

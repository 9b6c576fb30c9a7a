package snapshot

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// runtimeObject is an object of any kind.
type runtimeObject = runtime.Object

// Change is a change of one object. Before is nil if it is new, After if it was deleted.
type Change struct {
	Before, After runtime.Object
	// Initial is set for objects that were there when following began.
	Initial bool
}

// Follower keeps a Snapshot up to date by watches.
type Follower struct {
	request   Request
	informers map[string]cache.SharedIndexInformer // by the name of the kind
	kinds     []reader

	mu     sync.Mutex
	failed map[string]error
}

// Follow begins to follow what a request asks for, until ctx ends. changed is called for
// each change, by one goroutine for each kind. A kind that may not be read in the whole
// cluster is followed in the request's namespace if narrow has its name.
func Follow(
	ctx context.Context, c *Client, request Request, narrow map[string]bool, changed func(Change),
) *Follower {
	f := &Follower{
		request:   request,
		informers: map[string]cache.SharedIndexInformer{},
		failed:    map[string]error{},
	}
	for _, r := range readers {
		for _, k := range request.Kinds {
			if k.Name == r.Name {
				f.kinds = append(f.kinds, r)
			}
		}
	}
	for _, r := range f.kinds {
		namespace := ""
		switch {
		case r.own:
			namespace = request.Berth
		case narrow[r.Name]:
			namespace = request.Namespace
		}
		source := listerWatcher(c, r, namespace)
		informer := cache.NewSharedIndexInformer(source, r.object(), 0, cache.Indexers{})
		_ = informer.SetTransform(func(o any) (any, error) { // it has not begun yet
			if object, ok := o.(metav1.Object); ok {
				trim(object)
			}
			return o, nil
		})
		_ = informer.SetWatchErrorHandlerWithContext(
			func(_ context.Context, _ *cache.Reflector, err error) { f.fail(r.Name, err) })
		_, _ = informer.AddEventHandler(handler(changed))
		f.informers[r.Name] = informer
		go informer.RunWithContext(ctx)
	}
	return f
}

func listerWatcher(c *Client, r reader, namespace string) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list := r.list()
			err := c.get(r.Kind, namespace).SpecificallyVersionedParams(&options, parameters, coreVersion).
				Do(ctx).Into(list)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.watch(ctx, r.Kind, options, namespace)
		},
	}, noWatchList{})
}

// noWatchList has objects listed, not streamed: older API servers cannot stream them.
type noWatchList struct{}

// IsWatchListSemanticsUnSupported is what client-go asks.
func (noWatchList) IsWatchListSemanticsUnSupported() bool { return true }

func handler(changed func(Change)) cache.ResourceEventHandler {
	object := func(o any) runtime.Object {
		if gone, is := o.(cache.DeletedFinalStateUnknown); is {
			o = gone.Obj
		}
		out, _ := o.(runtime.Object)
		return out
	}
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) { changed(Change{After: object(o), Initial: initial}) },
		UpdateFunc: func(before, after any) {
			changed(Change{Before: object(before), After: object(after)})
		},
		DeleteFunc: func(o any) { changed(Change{Before: object(o)}) },
	}
}

// fail records that a kind cannot be followed at the moment.
func (f *Follower) fail(kind string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed[kind] = err
}

// Wait returns when each kind has been read or has failed, or false when ctx ends before.
func (f *Follower) Wait(ctx context.Context) bool {
	const pause = 20 * time.Millisecond
	for _, r := range f.kinds {
		for !f.informers[r.Name].HasSynced() && f.failure(r.Name) == nil {
			select {
			case <-ctx.Done():
				return false
			case <-time.After(pause):
			}
		}
	}
	return true
}

func (f *Follower) failure(kind string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed[kind]
}

// Snapshot returns what is known now.
func (f *Follower) Snapshot(now time.Time) *Snapshot {
	var objects Objects
	for _, r := range f.kinds {
		r.set(&objects, f.informers[r.Name].GetStore().List())
	}
	s := New(objects, f.request, now)
	for _, r := range f.kinds {
		if err := f.failure(r.Name); err != nil && !f.informers[r.Name].HasSynced() {
			s.SetUnread(r.Kind, err)
		}
	}
	return s
}

// Package v1alpha1 has what kubectl-berth prints with -o json and -o yaml: a contract for
// scripts, of the version cli.berth.io/v1alpha1. No API server knows these kinds.
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// APIVersion is that of every kind here.
const APIVersion = "cli.berth.io/v1alpha1"

// TypeMeta returns the head of an object of a kind.
func TypeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: APIVersion, Kind: kind}
}

// Ref names an object of the API server.
type Ref struct {
	// Kind is the kind as kubectl takes it, such as service or ipaddresspool.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String returns the object as a person reads it, such as "service shop/cart".
func (r Ref) String() string {
	if r.Namespace != "" {
		return r.Kind + " " + r.Namespace + "/" + r.Name
	}
	return r.Kind + " " + r.Name
}

// groups are the API groups of kinds that do not belong to the core.
var groups = map[string]string{
	"ipaddresspool":    "berth.io",
	"l2advertisement":  "berth.io",
	"bgpadvertisement": "berth.io",
	"bgppeer":          "berth.io",
	"bfdprofile":       "berth.io",
	"community":        "berth.io",
	"speaker":          "berth.io",
	"deployment":       "apps",
	"daemonset":        "apps",

	"customresourcedefinition": "apiextensions.k8s.io",
}

// Resource returns the object as -o name has it, such as ipaddresspool.berth.io/lan.
func (r Ref) Resource() string {
	if group := groups[r.Kind]; group != "" {
		return r.Kind + "." + group + "/" + r.Name
	}
	return r.Kind + "/" + r.Name
}

// Severity is how bad a problem is.
type Severity string

// The severities.
const (
	// Error: something that is asked for does not work.
	Error Severity = "Error"
	// Warning: it works, and will not for long, or not as it should.
	Warning Severity = "Warning"
)

// Problem is one thing that is wrong.
type Problem struct {
	Severity Severity `json:"severity"`
	Object   Ref      `json:"object"`
	// Reason is the word that also stands in conditions, Events, logs and metrics.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
	// Command is what to type next, to know more.
	Command string `json:"command,omitempty"`
}

// Unread is a kind of which not all objects could be read. What depends on it is not known.
type Unread struct {
	Kind string `json:"kind"`
	// Reason is Forbidden, NotInstalled or Failed.
	Reason string `json:"reason"`
	// Namespace is the only one of which the objects could be read, "" for none.
	Namespace string `json:"namespace,omitempty"`
	Message   string `json:"message"`
}

// Status is the state of Berth in a cluster, on one screen.
type Status struct {
	metav1.TypeMeta `json:",inline"`
	Context         string `json:"context,omitempty"`
	Namespace       string `json:"namespace"`
	// Verdict is Healthy, Problems, Unknown (nothing is known to be wrong, and not all could
	// be read) or NotInstalled.
	Verdict    string           `json:"verdict"`
	Controller *ControllerState `json:"controller,omitempty"`
	Speakers   *SpeakersState   `json:"speakers,omitempty"`
	Pools      []PoolUse        `json:"pools,omitempty"`
	Layer2     *Layer2State     `json:"layer2,omitempty"`
	BGP        *SessionsState   `json:"bgp,omitempty"`
	BFD        *SessionsState   `json:"bfd,omitempty"`
	Services   *ServicesState   `json:"services,omitempty"`
	Problems   []Problem        `json:"problems"`
	Unread     []Unread         `json:"unread,omitempty"`
}

// ControllerState is that of the controller.
type ControllerState struct {
	// Replicas that there shall be, and that are ready; none if they cannot be read.
	Replicas *int32 `json:"replicas,omitempty"`
	Ready    *int32 `json:"ready,omitempty"`
	// Leader is who leads, "" for nobody or if that cannot be read, Since when.
	Leader string      `json:"leader,omitempty"`
	Since  metav1.Time `json:"since,omitzero"`
	Image  string      `json:"image,omitempty"`
}

// SpeakersState is that of all speakers.
type SpeakersState struct {
	// Wanted is on how many nodes a speaker is to run; none if that cannot be read.
	Wanted *int32 `json:"wanted,omitempty"`
	// Known have an object, and Ready of these say that they announce what they should.
	Known int `json:"known"`
	Ready int `json:"ready"`
	// Versions are those that run, with the number of nodes of each.
	Versions []VersionCount `json:"versions,omitempty"`
	// Absent are nodes that other speakers miss.
	Absent []string `json:"absent,omitempty"`
}

// VersionCount is on how many nodes a version runs.
type VersionCount struct {
	Version string   `json:"version"`
	Count   int      `json:"count"`
	Nodes   []string `json:"nodes,omitempty"` // the first few
}

// PoolUse is how full a pool is.
type PoolUse struct {
	Name string    `json:"name"`
	IPv4 *PoolSize `json:"ipv4,omitempty"`
	IPv6 *PoolSize `json:"ipv6,omitempty"`
}

// Layer2State sums up what is announced by ARP and NDP.
type Layer2State struct {
	Addresses int `json:"addresses"`
	Nodes     int `json:"nodes"`
	Conflicts int `json:"conflicts"`
}

// SessionsState counts sessions.
type SessionsState struct {
	Sessions int `json:"sessions"`
	Up       int `json:"up"`
}

// ServicesState counts the Services that Berth handles.
type ServicesState struct {
	Total int `json:"total"`
	// Assigned have all addresses that they ask for, Announced have them announced too. Of
	// Unknown that is not known.
	Assigned  int `json:"assigned"`
	Announced int `json:"announced"`
	Unknown   int `json:"unknown"`
	// Namespace is the only one of which Services could be read, "" for all.
	Namespace string `json:"namespace,omitempty"`
}

// PoolSize is how many addresses of a family a pool has, as its controller counts them.
type PoolSize struct {
	Size     int64 `json:"size"`
	Assigned int64 `json:"assigned"`
	Free     int64 `json:"free"`
	Resting  int64 `json:"resting"`
	Excluded int64 `json:"excluded"`
}

// ListMeta is what every list says of itself.
type ListMeta struct {
	Unread []Unread `json:"unread,omitempty"`
	// Remarks say what the list does not show, and why.
	Remarks []string `json:"remarks,omitempty"`
}

// PoolList is what `kubectl berth pools` prints.
type PoolList struct {
	metav1.TypeMeta `json:",inline"`
	ListMeta        `json:",inline"`
	Items           []Pool `json:"items"`
}

// Pool is an IPAddressPool and what becomes of it.
type Pool struct {
	PoolUse `json:",inline"`
	Ranges  []string `json:"ranges,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	Drain   bool     `json:"drain,omitempty"`
	Quota   int32    `json:"quotaPerNamespace,omitempty"`
	// OutOfRange are held addresses that the pool no longer contains.
	OutOfRange int64 `json:"outOfRange,omitempty"`
	// L2Advertisements and BGPAdvertisements select the pool.
	L2Advertisements  []string `json:"l2Advertisements,omitempty"`
	BGPAdvertisements []string `json:"bgpAdvertisements,omitempty"`
	// Services hold addresses of it.
	Services []Holding `json:"services,omitempty"`
	Reason   string    `json:"reason"`
	Message  string    `json:"message,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Holding is which addresses a Service holds.
type Holding struct {
	Service   string   `json:"service"`
	Addresses []string `json:"addresses"`
}

// ServiceList is what `kubectl berth services` prints.
type ServiceList struct {
	metav1.TypeMeta `json:",inline"`
	ListMeta        `json:",inline"`
	Items           []Service `json:"items"`
}

// Service is a Service that Berth handles.
type Service struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	Created   metav1.Time      `json:"created,omitzero"`
	Policy    string           `json:"externalTrafficPolicy,omitempty"`
	Addresses []ServiceAddress `json:"addresses,omitempty"`
	// Endpoints are the usable ones, none if they cannot be read.
	Endpoints *Endpoints `json:"endpoints,omitempty"`
	// Reason is Assigned if it has all that it asks for.
	Reason   string    `json:"reason"`
	Message  string    `json:"message,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Endpoints are those to which a Service's traffic can go.
type Endpoints struct {
	Usable int `json:"usable"`
	// Nodes have them.
	Nodes []NodeCount `json:"nodes,omitempty"`
}

// NodeCount is a number of things on a node.
type NodeCount struct {
	Node  string `json:"node"`
	Count int    `json:"count"`
}

// ServiceAddress is an address of a Service.
type ServiceAddress struct {
	Address string `json:"address"`
	// Pool is the pool that it is from, "" if that is not known.
	Pool string `json:"pool,omitempty"`
	// Layer2 are the nodes that answer for it, BGP those that announce it to routers; of
	// many, the first few, and BGPCount how many there are.
	Layer2   []Announcer `json:"layer2,omitempty"`
	BGP      []string    `json:"bgp,omitempty"`
	BGPCount int         `json:"bgpCount,omitempty"`
	// SharedWith are other Services that have it.
	SharedWith []string `json:"sharedWith,omitempty"`
	// Reason is Announcing or Announced, or why nobody announces it, Unknown if that is not
	// known.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// Announcer is a node that answers for an address by ARP or NDP.
type Announcer struct {
	Node       string      `json:"node"`
	Links      []string    `json:"links,omitempty"`
	Since      metav1.Time `json:"since,omitzero"`
	Generation int64       `json:"generation,omitempty"`
	// StandInFor is the owner in whose place it answers, "" if it is the owner.
	StandInFor string `json:"standInFor,omitempty"`
}

// NodeList is what `kubectl berth nodes` prints.
type NodeList struct {
	metav1.TypeMeta `json:",inline"`
	ListMeta        `json:",inline"`
	Items           []Node `json:"items"`
}

// Node is a node and its speaker.
type Node struct {
	Name  string `json:"name"`
	Stage string `json:"stage,omitempty"`
	// Reason is that of the Ready condition of the Speaker object; NoSpeaker without one.
	Reason        string        `json:"reason"`
	Message       string        `json:"message,omitempty"`
	Since         metav1.Time   `json:"since,omitzero"`
	Version       string        `json:"version,omitempty"`
	MemberAddress string        `json:"memberAddress,omitempty"`
	Owned         int           `json:"owned"`
	StandsInFor   int           `json:"standsInFor"`
	BGPAddresses  *int32        `json:"bgpAddresses,omitempty"`
	BGP           SessionsState `json:"bgp"`
	BFD           SessionsState `json:"bfd"`
	Conflicts     int           `json:"conflicts"`
	// Misses are the other nodes whose speakers it misses.
	Misses []string `json:"misses,omitempty"`
	// Presence is how the other speakers see it, and PresenceReason why.
	Presence       string `json:"presence,omitempty"`
	PresenceReason string `json:"presenceReason,omitempty"`
	// Marks are Excluded and Cordoned; "(ignored)" follows if its speaker ignores it.
	Marks    []string  `json:"marks,omitempty"`
	Links    []Link    `json:"links,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Link is a network interface of a node.
type Link struct {
	Name     string   `json:"name"`
	Up       bool     `json:"up"`
	Prefixes []string `json:"prefixes,omitempty"`
	Problem  string   `json:"problem,omitempty"`
}

// SessionList is what `kubectl berth sessions` prints.
type SessionList struct {
	metav1.TypeMeta `json:",inline"`
	ListMeta        `json:",inline"`
	Items           []Session `json:"items"`
}

// Session is a session of a node with a BGP peer.
type Session struct {
	Node           string      `json:"node"`
	Peer           string      `json:"peer"`
	State          string      `json:"state"`
	Since          metav1.Time `json:"since,omitzero"`
	LocalAddress   string      `json:"localAddress,omitempty"`
	RemoteAddress  string      `json:"remoteAddress,omitempty"`
	LocalASN       int64       `json:"localASN,omitempty"`
	PeerASN        int64       `json:"peerASN,omitempty"`
	Families       []string    `json:"families,omitempty"`
	AdvertisedIPv4 int32       `json:"advertisedIPv4"`
	AdvertisedIPv6 int32       `json:"advertisedIPv6"`
	Withheld       string      `json:"withheld,omitempty"`
	Reason         string      `json:"reason,omitempty"`
	Problem        string      `json:"problem,omitempty"`
	LastError      string      `json:"lastError,omitempty"`
	LastErrorTime  metav1.Time `json:"lastErrorTime,omitzero"`
	LastEnd        string      `json:"lastEnd,omitempty"`
	LastEndTime    metav1.Time `json:"lastEndTime,omitzero"`
	Notification   string      `json:"lastNotification,omitempty"`
	BFD            *BFD        `json:"bfd,omitempty"`
	Problems       []Problem   `json:"problems,omitempty"`
}

// BFD is how BFD watches the way to a peer.
type BFD struct {
	State         string           `json:"state"`
	Since         metav1.Time      `json:"since,omitzero"`
	Problem       string           `json:"problem,omitempty"`
	Downs         int64            `json:"downs"`
	LastDownCause string           `json:"lastDownCause,omitempty"`
	DetectionTime *metav1.Duration `json:"detectionTime,omitempty"`
}

// RouteList is what `kubectl berth routes` prints.
type RouteList struct {
	metav1.TypeMeta `json:",inline"`
	ListMeta        `json:",inline"`
	Items           []Route `json:"items"`
}

// Route is a prefix that a node is to announce to a peer.
type Route struct {
	Node   string `json:"node"`
	Peer   string `json:"peer"`
	Prefix string `json:"prefix"`
	// Session is the state of the session that carries it.
	Session     string   `json:"session"`
	LocalPref   *uint32  `json:"localPref,omitempty"`
	MED         *uint32  `json:"med,omitempty"`
	Prepend     int      `json:"asPathPrepend,omitempty"`
	Communities []string `json:"communities,omitempty"`
	// Addresses are those that the route is announced for, Services those that have them.
	Addresses []string  `json:"addresses,omitempty"`
	Services  []string  `json:"services,omitempty"`
	Problems  []Problem `json:"problems,omitempty"`
}

// StepState says how a step of an explanation came out.
type StepState string

// The states of steps.
const (
	StepOK      StepState = "OK"
	StepProblem StepState = "Problem"
	StepUnknown StepState = "Unknown"
	StepInfo    StepState = "Info" // neither good nor bad
)

// Explanation is what `kubectl berth explain` prints.
type Explanation struct {
	metav1.TypeMeta `json:",inline"`
	// Subject is what is explained, such as "service default/web" or "10.77.0.240".
	Subject string `json:"subject"`
	// Summary says it in one sentence.
	Summary string   `json:"summary"`
	Steps   []Step   `json:"steps"`
	Events  []Event  `json:"events,omitempty"`
	Unread  []Unread `json:"unread,omitempty"`
}

// Step is one link of the chain.
type Step struct {
	Title   string    `json:"title"`
	State   StepState `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Text    string    `json:"text"`
	Details []Detail  `json:"details,omitempty"`
}

// Detail is what a step says of one node, pool or peer.
type Detail struct {
	Subject string    `json:"subject"`
	State   StepState `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Text    string    `json:"text,omitempty"`
}

// Event is an Event of the subject.
type Event struct {
	Time    metav1.Time `json:"time"`
	Type    string      `json:"type"`
	Reason  string      `json:"reason"`
	Object  string      `json:"object"`
	Message string      `json:"message"`
	Count   int32       `json:"count,omitempty"`
}

// Change is one line of `kubectl berth watch`.
type Change struct {
	metav1.TypeMeta `json:",inline"`
	Time            metav1.Time `json:"time"`
	Object          string      `json:"object"`
	Reason          string      `json:"reason"`
	Message         string      `json:"message"`
	// From is Event or Object: who says so.
	From string `json:"from"`
}

// Plan is what `kubectl berth plan` prints: the consequences of changes.
type Plan struct {
	metav1.TypeMeta `json:",inline"`
	// Verdict is NoDifference, Differences, or Unknown: no difference is known, and not all
	// could be read.
	Verdict string `json:"verdict"`
	// Changes are what is to be done.
	Changes []PlannedChange `json:"changes"`
	// Services are those whose addresses, or the reason for these, become others.
	Services []ServiceChange `json:"services"`
	// Addresses are those that another node answers for, by ARP and NDP.
	Addresses []AddressChange `json:"addresses"`
	// Routes are prefixes of which routers are told otherwise.
	Routes []RouteChange `json:"routes"`
	// Pools are all, also those that stay as they are.
	Pools []PoolChange `json:"pools"`
	// Objects are those whose Ready condition comes to say something else.
	Objects []ReadyChange `json:"objects"`
	// NotJudged are objects of a manifest of whose kind nothing is known here.
	NotJudged []PlannedChange `json:"notJudged,omitempty"`
	// Unknown says in sentences what is not known, and why.
	Unknown []string `json:"unknown,omitempty"`
	// Remarks say what was assumed.
	Remarks []string `json:"remarks,omitempty"`
	Unread  []Unread `json:"unread,omitempty"`
}

// PlannedChange is what is to be done to an object.
type PlannedChange struct {
	// Verb is Create, Update, Delete, Unchanged, Drain, Fail or Add.
	Verb   string `json:"verb,omitempty"`
	Object Ref    `json:"object"`
	// From is the file and the document in it, "" for an argument.
	From string `json:"from,omitempty"`
}

// ServiceChange is what becomes of a Service.
type ServiceChange struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Change is Gets, Loses, Changes or Stays, of its addresses.
	Change       string   `json:"change"`
	Before       []string `json:"before,omitempty"`
	After        []string `json:"after,omitempty"`
	ReasonBefore string   `json:"reasonBefore,omitempty"`
	// Reason is the one that its condition comes to have, "" if it is deleted or not handled.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// AddressChange is an address that another node comes to answer for.
type AddressChange struct {
	Address string `json:"address"`
	// Services have it then, or had it before if none does.
	Services []string `json:"services,omitempty"`
	// From and To are nodes, "" for none.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Reason is the cause for which To takes it, or why nobody does.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// RouteChange is a prefix that nodes come to tell a peer, cease to, or tell otherwise.
type RouteChange struct {
	Peer   string `json:"peer"`
	Prefix string `json:"prefix"`
	// Before and After are how many nodes tell it.
	Before  int       `json:"before"`
	After   int       `json:"after"`
	Gained  *SomeOf   `json:"gained,omitempty"`
	Lost    *SomeOf   `json:"lost,omitempty"`
	Changed *SomeOf   `json:"changed,omitempty"`
	As      RouteAttr `json:"attributes"`
	// Reason is why the first of those that lose it no longer tell it, "" if that is not
	// because of the address or the node.
	Reason string `json:"reason,omitempty"`
}

// SomeOf are nodes: how many, and the first of them.
type SomeOf struct {
	Count int      `json:"count"`
	Nodes []string `json:"nodes"`
}

// RouteAttr are attributes of a route.
type RouteAttr struct {
	LocalPref   uint32   `json:"localPref,omitempty"`
	MED         *uint32  `json:"med,omitempty"`
	Prepend     int      `json:"asPathPrepend,omitempty"`
	Communities []string `json:"communities,omitempty"`
}

// PoolChange is how full a pool is, before and after; nil where there is no such pool.
type PoolChange struct {
	Name   string   `json:"name"`
	Before *PoolUse `json:"before,omitempty"`
	After  *PoolUse `json:"after,omitempty"`
	// OutOfRangeBefore and OutOfRange are how many addresses Services hold that the pool does
	// not contain.
	OutOfRangeBefore int `json:"outOfRangeBefore,omitempty"`
	OutOfRange       int `json:"outOfRange,omitempty"`
	// Differs is set if anything of it does.
	Differs bool `json:"differs"`
}

// ReadyChange is a configuration object whose Ready condition comes to say something else.
type ReadyChange struct {
	Object Ref `json:"object"`
	// Before is the reason that it has now, "" for a new object.
	Before  string `json:"before,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// Version is what `kubectl berth version` prints.
type Version struct {
	metav1.TypeMeta `json:",inline"`
	Client          string         `json:"client"`
	Controller      string         `json:"controllerImage,omitempty"`
	Speakers        []VersionCount `json:"speakers,omitempty"`
	Kubernetes      string         `json:"kubernetes,omitempty"`
	Unread          []Unread       `json:"unread,omitempty"`
}

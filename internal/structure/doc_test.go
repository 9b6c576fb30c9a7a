// Package structure holds the house rules that no compiler checks: who may
// import whom, and which keys log lines use. It has tests only.
package structure

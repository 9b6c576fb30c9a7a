// Package settings reads the settings of a process: from flags, from BERTH_*
// environment variables and from an optional file, in that order of weight.
//
// They are settings of one process only (addresses, names, timers). What
// holds for the whole cluster is in API objects.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix begins the environment variable of every setting: --log-level is
// BERTH_LOG_LEVEL.
const EnvPrefix = "BERTH"

// FileFlag is the flag that names the optional settings file.
const FileFlag = "config"

// AddFileFlag defines --config.
func AddFileFlag(flags *pflag.FlagSet) {
	flags.String(FileFlag, "",
		"File with settings (YAML, TOML or JSON); its keys are the flags' names without the dashes. "+
			"A flag outweighs the environment, which outweighs the file.")
}

// Load fills into, a pointer to a struct whose fields carry the names of
// cmd's flags in `mapstructure` tags. Values of the environment and the file are
// read as if they stood in the flag; of a flag that may be repeated, the
// environment separates several values by white space, and the file does so
// too or has a list. The error has a line for each setting that cannot be
// read, and for each key of the file that is no setting.
func Load(cmd *cobra.Command, into any) error {
	return LoadValid(cmd, into, func() error { return nil })
}

// LoadValid does what Load does, and adds the error that validate returns for into. In
// into, settings that cannot be read have their default, so one error names all that is
// wrong.
func LoadValid(cmd *cobra.Command, into any, validate func() error) error {
	flags := cmd.Flags()
	v, err := sources(flags)
	if err != nil {
		return err
	}
	errs := unknownKeys(v, flags)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || !isSetting(f) {
			return
		}
		if value := v.Get(f.Name); value != nil {
			errs = append(errs, set(f, value))
		}
	})
	if err := decode(flags, into); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, validate())...)
}

// sources returns the environment and, where one is named, the file; the
// environment outweighs it.
func sources(flags *pflag.FlagSet) (*viper.Viper, error) {
	v := viper.NewWithOptions(
		viper.KeyDelimiter("::"), // a dot in a key is not a path
		viper.EnvKeyReplacer(strings.NewReplacer("-", "_")),
	)
	v.SetEnvPrefix(EnvPrefix)
	v.AutomaticEnv()
	file := v.GetString(FileFlag)
	if f := flags.Lookup(FileFlag); f != nil && f.Changed {
		file = f.Value.String()
	}
	if file == "" {
		return v, nil
	}
	v.SetConfigFile(file)
	if err := v.ReadInConfig(); err != nil {
		return nil, fmt.Errorf("--%s: %w", FileFlag, err)
	}
	return v, nil
}

// isSetting reports whether a flag is a setting; others are read before there are any.
func isSetting(f *pflag.Flag) bool {
	return f.Name != FileFlag && f.Name != "help" && f.Name != "version"
}

// unknownKeys returns an error for each key of the settings file that is no setting.
func unknownKeys(v *viper.Viper, flags *pflag.FlagSet) []error {
	keys := v.AllKeys()
	slices.Sort(keys)
	var errs []error
	for _, key := range keys {
		if f := flags.Lookup(key); f == nil || !isSetting(f) {
			errs = append(errs, fmt.Errorf("--%s: %q is no setting", FileFlag, key))
		}
	}
	return errs
}

// set sets a flag to a value of the environment or the file.
func set(f *pflag.Flag, value any) error {
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		word, ok := text(value)
		if !ok {
			return Invalid(f.Name, value, wanted(f, errors.New("use a single value, in quotes")))
		}
		if err := f.Value.Set(word); err != nil {
			_ = f.Value.Set(f.DefValue) // which is valid; what cannot be read may have changed it
			return Invalid(f.Name, word, wanted(f, err))
		}
		return nil
	}
	words, ok := texts(value)
	if !ok {
		return Invalid(f.Name, value, "use a list, its elements in quotes")
	}
	if err := list.Replace(words); err != nil {
		return Invalid(f.Name, value, err.Error())
	}
	return nil
}

// text returns a single value of the environment or the file as it would stand in
// a flag.
func text(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case bool, int, int64, uint64:
		return fmt.Sprint(value), true
	case float64: // also what JSON has for whole numbers
		return strconv.FormatFloat(value, 'f', -1, 64), true
	}
	return "", false
}

// texts returns the elements of a list, or words between white space.
func texts(value any) ([]string, bool) {
	list, ok := value.([]any)
	if !ok {
		words, ok := text(value)
		return strings.Fields(words), ok
	}
	var words []string
	for _, element := range list {
		word, ok := text(element)
		if !ok {
			return nil, false
		}
		words = append(words, word)
	}
	return words, true
}

// wanted returns what would be right for a flag that cannot have a value.
func wanted(f *pflag.Flag, err error) string {
	switch f.Value.Type() {
	case "bool":
		return "use true or false"
	case "duration":
		return "use a number with its unit, such as 250ms, 6s or 1m30s"
	case "int":
		return "use a whole number"
	case "uint16":
		return "use a whole number from 0 to 65535"
	}
	return err.Error()
}

// decode fills a struct with the values of flags.
func decode(flags *pflag.FlagSet, into any) error {
	values := make(map[string]any)
	flags.VisitAll(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values[f.Name] = list.GetSlice()
		} else {
			values[f.Name] = f.Value.String()
		}
	})
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:           into,
		WeaklyTypedInput: true,
		DecodeHook:       mapstructure.StringToTimeDurationHookFunc(),
	})
	if err == nil {
		err = decoder.Decode(values)
	}
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

// Invalid returns the error for a setting whose value cannot be used: it names the
// flag, the value and what would be right.
func Invalid(flag string, value any, want string) error {
	return fmt.Errorf("--%s (%s): %q is not valid: %s", flag, variable(flag), fmt.Sprint(value), want)
}

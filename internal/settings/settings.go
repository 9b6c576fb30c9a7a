// Package settings reads the settings of a process: from flags, from BERTH_*
// environment variables and from an optional file, in that order of weight.
//
// They are settings of one process only (addresses, names, timers). What
// holds for the whole cluster is in API objects.
package settings

import (
	"errors"
	"fmt"
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
	flags.String(FileFlag, "", "File with settings (YAML, TOML or JSON); its keys are the flags' names without the dashes in front. "+
		"A flag outweighs the environment, which outweighs the file.")
}

// Load fills into, a pointer to a struct whose fields carry the names of
// cmd's flags in `mapstructure` tags. The error names the setting that cannot
// be read, or the key of the file that is no setting.
func Load(cmd *cobra.Command, into any) error {
	v := viper.NewWithOptions(
		viper.KeyDelimiter("::"), // a dot in a key is not a path
		viper.EnvKeyReplacer(strings.NewReplacer("-", "_")),
	)
	v.SetEnvPrefix(EnvPrefix)
	v.AutomaticEnv()
	if err := v.BindPFlags(cmd.Flags()); err != nil {
		return fmt.Errorf("bind flags: %w", err)
	}
	if file := v.GetString(FileFlag); file != "" {
		v.SetConfigFile(file)
		if err := v.ReadInConfig(); err != nil {
			return fmt.Errorf("--%s: %w", FileFlag, err)
		}
	}
	if err := knownKeys(v, cmd.Flags()); err != nil {
		return err
	}
	hooks := mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(),
		mapstructure.StringToSliceHookFunc(","),
		mapstructure.TextUnmarshallerHookFunc(),
	)
	err := v.Unmarshal(into, viper.DecodeHook(hooks))
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

// knownKeys finds keys of the settings file that are no setting.
func knownKeys(v *viper.Viper, flags *pflag.FlagSet) error {
	var errs []error
	for _, key := range v.AllKeys() {
		if flags.Lookup(key) == nil {
			errs = append(errs, fmt.Errorf("--%s: %q is no setting", FileFlag, key))
		}
	}
	return errors.Join(errs...)
}

// Invalid is the error for a setting whose value cannot be used: it names the
// flag, the value and what would be right.
func Invalid(flag string, value any, want string) error {
	return fmt.Errorf("--%s (%s_%s): %q is not valid: %s",
		flag, EnvPrefix, strings.ToUpper(strings.ReplaceAll(flag, "-", "_")), fmt.Sprint(value), want)
}

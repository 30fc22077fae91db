package main

import (
	"debug/buildinfo"
	"errors"
	"os"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM writes what a binary consists of, by what Go's linker has recorded in it: of the modules in go.mod no
// platform needs all.
func writeSBOM(path, binary string, parts []part, c commit) (err error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	sum, err := checksum(binary)
	if err != nil {
		return err
	}
	plugin := module(info.Main.Path, "v"+c.version)
	plugin.Type = cyclonedx.ComponentTypeApplication
	plugin.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: sum}}
	plugin.Licenses = &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}}
	plugin.Properties = &[]cyclonedx.Property{{Name: "commit", Value: c.hash}}
	for _, setting := range info.Settings {
		if strings.HasPrefix(setting.Key, "GO") {
			*plugin.Properties = append(*plugin.Properties, cyclonedx.Property{Name: setting.Key, Value: setting.Value})
		}
	}

	var components []cyclonedx.Component
	for _, of := range parts {
		component := module(of.path, of.version)
		component.Licenses = &cyclonedx.Licenses{}
		for _, id := range of.licences {
			*component.Licenses = append(*component.Licenses, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id}})
		}
		components = append(components, component)
	}

	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: c.date.String(), Component: &plugin}
	bom.Components = &components
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// Not the newest version of the specification: not all that read it know that one yet.
	return cyclonedx.NewBOMEncoder(file, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
}

// module returns a Go module as a component.
func module(path, version string) cyclonedx.Component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cyclonedx.Component{
		Type:       cyclonedx.ComponentTypeLibrary,
		BOMRef:     purl,
		Name:       path,
		Version:    version,
		PackageURL: purl,
	}
}

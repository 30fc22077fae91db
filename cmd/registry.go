package cmd

import (
	"fmt"
	"net/http"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/registry"
	"k8s.io/client-go/transport"
)

// registryClient returns a client for charts in OCI registries, made from the
// flags as Helm makes it (cmd/helm/root.go). It contacts nothing.
func (p *program) registryClient(o *action.ChartPathOptions) (*registry.Client, error) {
	opts := []registry.ClientOption{
		registry.ClientOptDebug(p.settings.Debug),
		registry.ClientOptEnableCache(true),
		registry.ClientOptWriter(p.ErrOut),
		registry.ClientOptCredentialsFile(p.settings.RegistryConfig),
		registry.ClientOptBasicAuth(o.Username, o.Password),
	}
	certificate := o.CertFile != "" && o.KeyFile != ""
	switch {
	case certificate || o.CaFile != "" || o.InsecureSkipTLSverify:
		client, err := httpClient(o, certificate)
		if err != nil {
			return nil, fmt.Errorf("missing registry client: can't create TLS config for client: %w", err)
		}
		opts = append(opts, registry.ClientOptHTTPClient(client))
	case o.PlainHTTP:
		opts = append(opts, registry.ClientOptPlainHTTP())
	}
	client, err := registry.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("missing registry client: %w", err)
	}
	return client, nil
}

func httpClient(o *action.ChartPathOptions, certificate bool) (*http.Client, error) {
	var tls transport.TLSConfig
	if certificate {
		tls.CertFile, tls.KeyFile = o.CertFile, o.KeyFile
	}
	// Without verification a CA has no effect, and client-go refuses both.
	if tls.Insecure = o.InsecureSkipTLSverify; !tls.Insecure {
		tls.CAFile = o.CaFile
	}
	config, err := transport.TLSConfigFor(&transport.Config{TLS: tls})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: config,
		Proxy:           http.ProxyFromEnvironment,
	}}, nil
}

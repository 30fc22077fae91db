package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// credentials are the paths of the files by which the parts of a control plane trust each other.
type credentials struct {
	ca                                         string
	servingCert, servingKey                    string // of the API server and of the node's log endpoint
	adminCert, adminKey                        string
	serviceAccountKey, serviceAccountPublicKey string
	kubeconfig                                 string
}

// writeCredentials makes a certificate authority for one control plane, and everything that it signs. Its key is
// never written.
func writeCredentials(dir string, apiPort int) (*credentials, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	files := &credentials{
		ca:          at("ca.crt"),
		servingCert: at("serving.crt"), servingKey: at("serving.key"),
		adminCert: at("admin.crt"), adminKey: at("admin.key"),
		serviceAccountKey: at("service-account.key"), serviceAccountPublicKey: at("service-account.pub"),
		kubeconfig: at("kubeconfig"),
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := certificate("parallel-hooks-test")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	if err := signCertificate(files.ca, ca, ca, caKey.Public(), caKey); err != nil {
		return nil, err
	}

	serving := certificate("127.0.0.1")
	serving.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	serving.DNSNames = []string{"localhost"}
	serving.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	admin := certificate("admin", "system:masters")
	admin.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, leaf := range []struct {
		template  *x509.Certificate
		cert, key string
	}{
		{serving, files.servingCert, files.servingKey},
		{admin, files.adminCert, files.adminKey},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if err := writePrivateKey(leaf.key, key); err != nil {
			return nil, err
		}
		if err := signCertificate(leaf.cert, leaf.template, ca, key.Public(), caKey); err != nil {
			return nil, err
		}
	}

	// Service account tokens are signed with RSA everywhere, so here too.
	tokens, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	if err := writePrivateKey(files.serviceAccountKey, tokens); err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(tokens.Public())
	if err != nil {
		return nil, err
	}
	if err := writePEM(files.serviceAccountPublicKey, "PUBLIC KEY", public); err != nil {
		return nil, err
	}
	return files, writeKubeconfig(files, apiPort)
}

func certificate(name string, groups ...string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(7 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func signCertificate(path string, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePrivateKey(path string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeKubeconfig puts the certificates into the file itself, so that it can be copied elsewhere.
func writeKubeconfig(files *credentials, apiPort int) error {
	cluster := &clientcmdapi.Cluster{Server: fmt.Sprintf("https://127.0.0.1:%d", apiPort)}
	user := &clientcmdapi.AuthInfo{}
	for path, content := range map[string]*[]byte{
		files.ca:        &cluster.CertificateAuthorityData,
		files.adminCert: &user.ClientCertificateData,
		files.adminKey:  &user.ClientKeyData,
	} {
		var err error
		if *content, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["parallel-hooks-test"] = cluster
	config.AuthInfos["admin"] = user
	config.Contexts["parallel-hooks-test"] = &clientcmdapi.Context{Cluster: "parallel-hooks-test", AuthInfo: "admin"}
	config.CurrentContext = "parallel-hooks-test"
	return clientcmd.WriteToFile(*config, files.kubeconfig)
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.UserAgent = "parallel-hooks-test"
	return config, nil
}

// Package helm3 is the seam into Helm 3: it lets Helm's own action package carry
// out an operation on a release, with hooks disabled there, and runs the hooks by
// the engine of package hooks at the moments at which Helm would have run them.
//
// Nothing of Helm is forked for that. The action is given two decorated things:
//   - The storage driver. A record that is created with a pending status tells
//     which release, which hooks and which pair of events the operation has. The
//     pointer is the very release that the action goes on to record, so what is
//     set on it is stored with it.
//   - The kube client. The first request to create or change resources after that
//     record runs the pre-hooks first; the request to wait runs the post-hooks
//     after. The action is always told to wait; the decorator really waits only
//     if the user asked for it. A chart without resources reaches the waiting
//     alone, so that both pairs run there.
//
// Two operations begin without a pending record. Uninstall runs the pre-delete
// hooks before Helm's action, in the record that the action would have written by
// then, and the post-delete hooks where the action waits for the deletion. Test,
// which is nothing but hooks, does what the action does.
//
// The user's wish to cancel never reaches the action, since Helm's own handling
// of it returns while the operation goes on and then two goroutines write the
// record (helm.sh/helm/v3/pkg/action/install.go, performInstallCtx). It reaches
// the engine and the waiting here, which return an error in good order.
package helm3

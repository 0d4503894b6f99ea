// Command controlplane is etcd, kube-apiserver and kube-controller-manager in one file: it becomes the one whose
// name it was called by, so the Python side makes three links to it and runs each like the upstream program.
//
// One binary instead of three, because the three share most of their packages and linking them thrice costs
// minutes and 200 MB. Nothing here changes what the upstream programs do.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // as upstream's own main packages do
	_ "k8s.io/component-base/metrics/prometheus/version"  // as upstream's own main packages do
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "called as %q; link or copy this file as etcd, kube-apiserver or kube-controller-manager\n", name)
		os.Exit(2)
	}
}

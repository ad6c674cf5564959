# bash completion for bulkhead-bench(1)

_bulkhead_bench() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local options="-f --frontend -b --backend -c --clients -w --workers -i --window -r --rate -s --size
		-p --parts -d --duration -n --count -t --timeout -e --echo --warmup -j --json -q --quiet
		-V --version -h --help"

	# an endpoint has colons, at which bash splits words
	case $prev in
	-f | --frontend | -b | --backend)
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -W "tcp:// ipc://" -- "$cur")
		return
		;;
	esac
	[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}

complete -F _bulkhead_bench bulkhead-bench

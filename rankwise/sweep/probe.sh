# Every process prints one line: where it is, and what its launcher has told it. It is started
# exactly as the program of a sweep will be, and uses nothing but the shell: a container may have
# neither Python nor any other tool.
IFS= read -r host < /proc/sys/kernel/hostname
IFS= read -r online < /sys/devices/system/cpu/online
while IFS= read -r line; do
    case $line in Cpus_allowed_list:*) cpus=${line##*[!0-9,-]} ;; esac
done < /proc/self/status
first=${cpus%%[,-]*}
IFS= read -r siblings < "/sys/devices/system/cpu/cpu$first/topology/thread_siblings_list"
variables=
while IFS= read -r line; do
    case $line in
    OMPI_MCA_* | PMIX_MCA_*) ;;
    PMI_*=* | PMIX_*=* | OMPI_*=*) variables=$variables,${line%%=*} ;; esac
done << END
$(set)
END
set -- /dev/nvidia[0-9]*
[ -e "$1" ] || shift
echo "rankwise-probe host=$host cpus=$cpus siblings=${siblings:-$first} online=${online:-0}" \
    "gpus=${CUDA_VISIBLE_DEVICES-all of $#} variables=$variables end"

# The service as an image for Ray clusters with NVIDIA GPUs: Ray's own image of the pinned version, this package, no weights.
# Build: docker build -t REGISTRY/serve-app:VERSION .    (docs/kubernetes.md says how it is used)
ARG RAY_VERSION=2.60.0
FROM rayproject/ray:${RAY_VERSION}-py312-gpu

WORKDIR /home/ray/serve-app

# What is depended on changes seldom and weighs gigabytes: it has a layer of its own, from the pins alone.
COPY --chown=ray:users pyproject.toml README.md ./
RUN mkdir -p serve_app/torch_cpu loadtests \
    && touch serve_app/__init__.py loadtests/__init__.py serve_app/torch_cpu/_tv_cpu_shim.pth serve_app/torch_cpu/_tv_cpu_shim.py \
    && pip install --no-cache-dir '.[gpu]' \
    && pip uninstall --yes serve-app

COPY --chown=ray:users serve_app serve_app
COPY --chown=ray:users loadtests loadtests
COPY --chown=ray:users configs configs
RUN pip install --no-cache-dir --no-deps . && serve-app --help && command -v serve-app-haproxy

# Python writes no byte code at run time where the file system is read-only: all of it is made here.
RUN python -m compileall -q -j 0 "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || true

# What engines compile is kept here; fill it with `serve-app warm` on the kind of GPU that will serve, or mount it.
ENV XDG_CACHE_HOME=/home/ray/cache
RUN mkdir -p /home/ray/cache

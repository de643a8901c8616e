# What `make setup` makes, in an image: for the workers of a TPU slice, and for those of Apache Beam.
#
#   docker build -t codegen-pax .                           training on CPUs, import, export, prepare
#   docker build -t codegen-pax --build-arg EXTRA=tpu .     the same with the TPU runtime
#   docker build -t codegen-pax-beam --target beam .        a worker of Dataflow, Flink or Spark
#
# The set-up itself is done by the Makefile, so that the two cannot disagree.

FROM python:3.11-slim-trixie AS setup
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/codegen-pax
COPY . .
RUN make setup PYTHON=/usr/local/bin/python3.11
# A file of requirements/ to install in addition: tpu or gpu.
ARG EXTRA=""
RUN if [ -n "$EXTRA" ]; then \
        .venv/bin/python -m pip install --no-cache-dir --no-deps -r "requirements/$EXTRA.txt"; \
    fi
ENV PATH="/opt/codegen-pax/.venv/bin:$PATH" \
    HF_HUB_OFFLINE=1

# A Beam worker is started by Beam's own boot program, and uses the packages that are installed here.
FROM apache/beam_python3.11_sdk:2.77.0 AS boot

FROM setup AS beam
COPY --from=boot /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM setup AS train
CMD ["codegen-pax", "doctor"]

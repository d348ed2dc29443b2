# syntax=docker/dockerfile:1
# The image of the flex template: the SDK worker's image with Google's launcher in it.
#   docker build -f deploy/dataflow/launcher.Dockerfile \
#     --build-arg WORKER_IMAGE=REGION-docker.pkg.dev/PROJECT/REPOSITORY/cidermill:0.1.0 -t ... .
ARG WORKER_IMAGE=registry.example.org/cidermill:0.1.0
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 AS launcher

FROM ${WORKER_IMAGE}
COPY --from=launcher /opt/google/dataflow/python_template_launcher \
    /opt/google/dataflow/python_template_launcher
COPY deploy/dataflow/template.py deploy/dataflow/conclude_run.py /template/
# No FLEX_TEMPLATE_PYTHON_REQUIREMENTS_FILE and no SETUP_FILE: everything is in the image, and with
# one of them the launcher would fetch packages at each launch.
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/template.py
ENTRYPOINT ["/opt/google/dataflow/python_template_launcher"]

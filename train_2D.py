"""Train and trace in 2D.

    python train_2D.py --mode train --dataset DRIVE --data data/DRIVE --run runs/drive
    python train_2D.py --mode test --weights weights/DRIVE.safetensors --images photo.png --out out/photo
"""

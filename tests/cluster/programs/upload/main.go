// Uploads a file to $BUCKET with the credentials the SDK finds by itself; says which it found, and where.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	ctx := context.Background()
	chosen, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	found, err := chosen.Credentials.Retrieve(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Source, found.AccessKeyID)
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	client := s3.NewFromConfig(chosen, func(options *s3.Options) { options.UsePathStyle = true })
	bucket, key := aws.String(os.Getenv("BUCKET")), aws.String(os.Args[2])
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		log.Fatal(err)
	}
	if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: file}); err != nil {
		log.Fatal(err)
	}
}
